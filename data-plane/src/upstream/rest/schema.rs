//! Checks a call's arguments against a tool's input schema. Nothing is fetched.

use jsonschema::Validator;
use serde_json::Value;

/// How many problems one answer names.
const PROBLEMS_MAX: usize = 5;
const PROBLEM_CHARS: usize = 300;

/// A compiled input schema.
#[derive(Debug)]
pub(crate) struct InputSchema {
    validator: Validator,
}

impl InputSchema {
    /// Compiles `schema`; references to other documents are refused.
    pub(crate) fn compile(schema: &str) -> Result<Self, String> {
        let schema: Value = serde_json::from_str(schema).map_err(|error| error.to_string())?;
        let validator = jsonschema::options()
            .offline()
            .build(&schema)
            .map_err(|error| format!("the tool's input schema cannot be used: {error}"))?;
        Ok(Self { validator })
    }

    /// The problems with `arguments`, each naming the argument.
    pub(crate) fn check(&self, arguments: &str) -> Result<(), String> {
        let arguments: Value =
            serde_json::from_str(arguments).map_err(|error| error.to_string())?;
        if self.validator.is_valid(&arguments) {
            return Ok(());
        }
        let problems: Vec<_> = self
            .validator
            .iter_errors(&arguments)
            .take(PROBLEMS_MAX)
            .map(|error| {
                let place = error.instance_path().to_string();
                let place = place.trim_start_matches('/').replace('/', ".");
                let problem: String = error.to_string().chars().take(PROBLEM_CHARS).collect();
                if place.is_empty() { problem } else { format!("argument `{place}`: {problem}") }
            })
            .collect();
        Err(problems.join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_name_the_argument() {
        let schema = r#"{"type":"object","properties":{"n":{"type":"integer"},"o":{"type":"object",
            "properties":{"x":{"type":"string"}}}},"required":["n","city"]}"#;
        let schema = InputSchema::compile(schema).unwrap();
        assert_eq!(schema.check(r#"{"n":1,"city":"x"}"#), Ok(()));
        let problems = schema.check(r#"{"n":"one","o":{"x":2}}"#).unwrap_err();
        assert!(
            problems.contains("argument `n`: \"one\" is not of type \"integer\""),
            "{problems}"
        );
        assert!(problems.contains("argument `o.x`"), "{problems}");
        assert!(problems.contains("\"city\" is a required property"), "{problems}");
    }

    #[test]
    fn a_schema_never_reaches_out() {
        let schema = r#"{"type":"object","properties":{"a":{"$ref":"http://127.0.0.1:1/s.json"}}}"#;
        assert!(InputSchema::compile(schema).is_err());
    }
}
