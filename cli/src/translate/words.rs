//! A command line as text, split into words as a shell splits it; nothing is expanded.

/// The words of a command. The error says what is wrong with it.
pub(super) fn split(text: &str) -> Result<Vec<String>, &'static str> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut rest = text.chars();
    while let Some(next) = rest.next() {
        match next {
            ' ' | '\t' | '\n' | '\r' => words.extend(word.take()),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match rest.next().ok_or("a ' is not closed")? {
                        '\'' => break,
                        other => word.push(other),
                    }
                }
            }
            '"' => quoted(&mut rest, word.get_or_insert_default())?,
            '\\' => {
                let escaped = rest.next().ok_or("it ends with a \\")?;
                word.get_or_insert_default().push(escaped);
            }
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    if words.first().is_none_or(String::is_empty) {
        return Err("it names no program");
    }
    Ok(words)
}

fn quoted(rest: &mut std::str::Chars<'_>, word: &mut String) -> Result<(), &'static str> {
    const OPEN: &str = "a \" is not closed";
    loop {
        match rest.next().ok_or(OPEN)? {
            '"' => return Ok(()),
            '\\' => match rest.next().ok_or(OPEN)? {
                escaped @ ('"' | '\\' | '$' | '`') => word.push(escaped),
                other => word.extend(['\\', other]),
            },
            other => word.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_a_shell() {
        for (text, expected) in [
            ("uvx mcp-server-git", &["uvx", "mcp-server-git"][..]),
            ("  a\t'b  c'\n\"d \\\"e\\n\" ", &["a", "b  c", "d \"e\\n"]),
            (r"a\ b c''d ''", &["a b", "cd", ""]),
            ("a '\"$HOME\"'", &["a", "\"$HOME\""]),
        ] {
            assert_eq!(split(text).unwrap(), expected, "{text}");
        }
        for text in ["", "  ", "'a", "a \"b", "a\\", "''"] {
            assert!(split(text).is_err(), "{text}");
        }
    }
}
