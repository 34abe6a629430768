//! Values that are typed in a short form: `@FILE`, `-`, `NAME=VALUE`.

use std::{collections::BTreeMap, io::Read as _, path::Path};

use proto::wire;
use serde_json::value::RawValue;

use crate::{args::objects::CredentialArgs, failure::Failure};

/// The text itself, or the content of the file in `@FILE`; `@-` and `-` are stdin.
pub(crate) fn text_or_file(text: &str) -> Result<String, Failure> {
    match text.strip_prefix('@') {
        Some("-") => read_stdin(),
        Some(path) => read(Path::new(path)),
        None if text == "-" => read_stdin(),
        None => Ok(text.to_owned()),
    }
}

/// The content of a file; `-` is stdin.
pub(crate) fn file_or_stdin(path: &Path) -> Result<String, Failure> {
    if path == Path::new("-") { read_stdin() } else { read(path) }
}

fn read(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|error| Failure::file(path, &error))
}

fn read_stdin() -> Result<String, Failure> {
    let mut text = String::new();
    let read = std::io::stdin().lock().read_to_string(&mut text);
    read.map_err(|error| Failure::file(Path::new("stdin"), &error))?;
    Ok(text)
}

/// JSON text as it was written; only that it is JSON is checked here.
pub(crate) fn json(option: &str, text: Option<&str>) -> Result<String, Failure> {
    let Some(text) = text else { return Ok(String::new()) };
    let json = text_or_file(text)?;
    match serde_json::from_str::<&RawValue>(&json) {
        Ok(raw) => Ok(raw.get().to_owned()),
        Err(error) => Err(Failure::invalid(format!("{option} {text}: not JSON: {error}"))
            .hint("write the JSON in single quotes, or `@FILE`")),
    }
}

/// `NAME=VALUE` each.
pub(crate) fn pairs(option: &str, texts: &[String]) -> Result<BTreeMap<String, String>, Failure> {
    let pair = |text: &String| {
        let (name, value) = text
            .split_once('=')
            .filter(|(name, _)| !name.is_empty())
            .ok_or_else(|| Failure::usage(format!("{option} `{text}`: NAME=VALUE expected")))?;
        Ok((name.to_owned(), value.to_owned()))
    };
    texts.iter().map(pair).collect()
}

/// The credential that was given, if any.
pub(crate) fn credential(args: &CredentialArgs) -> Result<Option<wire::Credential>, Failure> {
    use wire::credential::Kind;
    let CredentialArgs { bearer, basic, secret_headers } = args;
    let kind = if let Some(bearer) = bearer {
        Kind::Bearer(text_or_file(bearer)?.trim().to_owned())
    } else if let Some(basic) = basic {
        let text = text_or_file(basic)?;
        let (username, password) = text
            .trim_end()
            .split_once(':')
            .ok_or_else(|| Failure::usage("--basic: USER:PASSWORD expected"))?;
        let (username, password) = (username.to_owned(), password.to_owned());
        Kind::Basic(wire::BasicCredential { username, password })
    } else if secret_headers.is_empty() {
        return Ok(None);
    } else {
        let values = pairs("--secret-header", secret_headers)?.into_iter().map(|(name, value)| {
            Ok((name, text_or_file(&value)?.trim_end_matches(['\r', '\n']).to_owned()))
        });
        let values = values.collect::<Result<_, Failure>>()?;
        Kind::Headers(wire::HeadersCredential { values })
    };
    Ok(Some(wire::Credential { kind: Some(kind) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_taken_byte_for_byte_from_a_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("schema.json");
        std::fs::write(&path, "{ \"maximum\": 1e2 }\n").unwrap();
        let text = format!("@{}", path.display());
        assert_eq!(json("--input-schema", Some(&text)).unwrap(), "{ \"maximum\": 1e2 }");
    }

    #[test]
    fn what_is_no_json_says_where() {
        let failure = json("--args", Some("{message:1}")).unwrap_err();
        assert_eq!(failure.exit as u8, 7);
        assert!(failure.message.contains("line 1 column 2"), "{failure}");
        assert_eq!(json("--args", Some("@/no/such/file")).unwrap_err().exit as u8, 3);
    }

    #[test]
    fn named_secrets_are_read_from_files() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        std::fs::write(&path, "s3cret\n").unwrap();
        let secret_headers = vec![format!("KEY=@{}", path.display()), "B=plain".to_owned()];
        let args = CredentialArgs { secret_headers, ..CredentialArgs::default() };
        let kind = credential(&args).unwrap().unwrap().kind;
        let Some(wire::credential::Kind::Headers(headers)) = kind else { panic!("{kind:?}") };
        assert_eq!(headers.values["KEY"], "s3cret");
        assert_eq!(headers.values["B"], "plain");
    }

    #[test]
    fn pairs_need_a_name_and_keep_later_equal_signs() {
        let pairs_of = |text: &str| pairs("--env", &[text.to_owned()]);
        assert_eq!(pairs_of("A=b=c").unwrap()["A"], "b=c");
        assert_eq!(pairs_of("=b").unwrap_err().exit as u8, 2);
    }
}
