//! Finds what a configuration refers to and does not have, and names that are given twice.

use ahash::{AHashMap, AHashSet};
use proto::{
    EntryKind,
    proxy::FieldError,
    resource::{ToolTarget, kind},
};

use super::parts::Parts;

/// Every broken reference of a configuration, with resource and field.
pub(super) fn check(parts: &Parts<'_>) -> Vec<FieldError> {
    let mut check = Check {
        upstreams: parts.upstreams.iter().map(|upstream| upstream.id.as_str()).collect(),
        credentials: parts.credentials.iter().map(|it| it.id.as_str()).collect(),
        errors: Vec::new(),
    };
    check.upstreams(parts);
    check.tools(parts);
    check.offers(parts);
    check.servers(parts);
    check.errors
}

struct Check<'a> {
    upstreams: AHashSet<&'a str>,
    credentials: AHashSet<&'a str>,
    errors: Vec<FieldError>,
}

impl<'a> Check<'a> {
    fn error(&mut self, (kind, id): (&str, &str), field: &str, message: String) {
        let resource = format!("{kind}/{id}");
        self.errors.push(FieldError { resource, field: field.to_owned(), message });
    }

    fn credential(&mut self, resource: (&str, &str), credential_id: Option<&str>) {
        let missing = credential_id.filter(|id| !self.credentials.contains(id));
        if let Some(id) = missing {
            self.error(resource, "credential_id", format!("names no credential: `{id}`"));
        }
    }

    fn unique(
        &mut self,
        names: &mut AHashMap<&'a str, &'a str>,
        resource: (&str, &'a str),
        name: &'a str,
    ) {
        if let Some(other) = names.insert(name, resource.1) {
            self.error(resource, "name", format!("`{name}` is the name of `{other}` too"));
        }
    }

    fn upstreams(&mut self, parts: &'a Parts<'_>) {
        let mut names = AHashMap::new();
        for upstream in &parts.upstreams {
            let resource = (kind::UPSTREAM, upstream.id.as_str());
            self.unique(&mut names, resource, upstream.name.as_str());
            // Only hosts of children are given what children need.
            if upstream.transport.url().is_some() {
                self.credential(resource, upstream.credential_id.as_deref());
            }
        }
    }

    fn tools(&mut self, parts: &'a Parts<'_>) {
        let mut names = AHashMap::new();
        for tool in &parts.tools {
            let resource = (kind::TOOL, &*tool.id);
            self.unique(&mut names, resource, &tool.name);
            match &tool.target {
                ToolTarget::Rest { binding: _, credential_id } => {
                    self.credential(resource, credential_id.as_deref());
                }
                ToolTarget::Upstream { upstream_id, original_name: _ } => {
                    if !self.upstreams.contains(upstream_id.as_str()) {
                        let message = format!("names no upstream: `{upstream_id}`");
                        self.error(resource, "upstream_id", message);
                    }
                }
            }
        }
    }

    fn offers(&mut self, parts: &'a Parts<'_>) {
        let mut names = AHashMap::new();
        for offer in &parts.offers {
            let resource = (offer.kind.as_str(), &*offer.id);
            if offer.kind == EntryKind::Prompt {
                self.unique(&mut names, resource, &offer.name);
            }
            if !self.upstreams.contains(&*offer.upstream_id) {
                let message = format!("names no upstream: `{}`", offer.upstream_id);
                self.error(resource, "upstream_id", message);
            }
        }
    }

    fn servers(&mut self, parts: &'a Parts<'_>) {
        let mut names = AHashMap::new();
        for server in &parts.servers {
            let resource = (kind::SERVER, server.id.as_str());
            self.unique(&mut names, resource, server.name.as_str());
            for (index, id) in server.upstream_ids.iter().enumerate() {
                if !self.upstreams.contains(id.as_str()) {
                    let field = format!("upstream_ids[{index}]");
                    self.error(resource, &field, format!("names no upstream: `{id}`"));
                }
            }
            for (index, entry) in server.entries.iter().enumerate() {
                if !self.upstreams.contains(entry.upstream_id.as_str()) {
                    let field = format!("entries[{index}].upstream_id");
                    let message = format!("names no upstream: `{}`", entry.upstream_id);
                    self.error(resource, &field, message);
                }
            }
            for (index, id) in server.tool_ids.iter().enumerate() {
                if !parts.tool_ids.contains(id.as_str()) {
                    let field = format!("tool_ids[{index}]");
                    self.error(resource, &field, format!("names no tool: `{id}`"));
                }
            }
        }
    }
}
