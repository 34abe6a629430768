//! The one conversion error: which field is wrong, and why.

/// A value that cannot be taken. `field` is a path such as `upstream.http.url`;
/// `problem` completes the sentence "`field` …" and says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{problem}", if field.is_empty() { String::new() } else { format!("`{field}` ") })]
pub struct Invalid {
    pub field: String,
    pub problem: String,
}

impl Invalid {
    pub fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { field: field.into(), problem: problem.into() }
    }

    /// A required field that is missing or empty.
    pub fn missing(field: impl Into<String>) -> Self {
        Self::new(field, "is required")
    }

    /// Puts the path of the containing message in front.
    #[must_use]
    pub fn under(mut self, parent: &str) -> Self {
        self.field = match (parent.is_empty(), self.field.is_empty()) {
            (true, _) => self.field,
            (false, true) => parent.to_owned(),
            (false, false) => format!("{parent}.{}", self.field),
        };
        self
    }
}

/// Puts a field path in front of the error of a result.
pub trait Under<T> {
    fn under(self, parent: &str) -> Result<T, Invalid>;
}

impl<T> Under<T> for Result<T, Invalid> {
    fn under(self, parent: &str) -> Result<T, Invalid> {
        self.map_err(|invalid| invalid.under(parent))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_grows_from_the_inside() {
        let error = Invalid::new("url", "is not a URL").under("http").under("upstream");
        assert_eq!(error.to_string(), "`upstream.http.url` is not a URL");
    }
}
