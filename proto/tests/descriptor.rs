//! Pins the wire: a changed number, type or name shows up in review.

use prost::Message as _;
use prost_types::{
    DescriptorProto, FileDescriptorSet,
    field_descriptor_proto::{Label, Type},
};
use proto::wire;

/// One line per method, field and enum value.
fn surface(set: &FileDescriptorSet) -> String {
    let mut lines = Vec::new();
    for file in set.file.iter().filter(|file| file.package() == "lockgate.v1") {
        for service in &file.service {
            for method in &service.method {
                lines.push(format!(
                    "rpc {}.{}({}{}) returns ({}{})",
                    service.name(),
                    method.name(),
                    if method.client_streaming() { "stream " } else { "" },
                    short(method.input_type()),
                    if method.server_streaming() { "stream " } else { "" },
                    short(method.output_type()),
                ));
            }
        }
        for message in &file.message_type {
            fields(message, &mut lines);
        }
        for kind in &file.enum_type {
            for value in &kind.value {
                lines.push(format!("enum {}.{} = {}", kind.name(), value.name(), value.number()));
            }
        }
    }
    lines.join("\n")
}

fn fields(message: &DescriptorProto, lines: &mut Vec<String>) {
    for field in &message.field {
        let kind = match field.r#type() {
            Type::Message | Type::Enum => short(field.type_name()).to_owned(),
            scalar => format!("{scalar:?}").to_lowercase(),
        };
        let repeated = if field.label() == Label::Repeated { "repeated " } else { "" };
        lines.push(format!(
            "{}.{}: {repeated}{kind} = {}",
            message.name(),
            field.name(),
            field.number()
        ));
    }
}

fn short(name: &str) -> &str {
    name.strip_prefix(".lockgate.v1.").unwrap_or(name)
}

#[test]
fn the_wire_changes_only_on_purpose() {
    let set = FileDescriptorSet::decode(wire::DESCRIPTOR).unwrap();
    insta::assert_snapshot!(surface(&set));
}
