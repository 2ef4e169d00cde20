//! The words of a condition.

use super::Wrong;

/// A word, and the letter at which it begins, from 1.
pub(super) type At = (usize, Token);

/// A word of a condition.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    Name(String),
    Text(String),
    Number(f64),
    /// A sign of one or two letters.
    Sign(&'static str),
}

/// Signs; longer ones first.
const SIGNS: [&str; 20] = [
    "==", "!=", "<=", ">=", "&&", "||", "<", ">", "!", "(", ")", "[", "]", "{", "}", ":", ",", ".",
    "+", "-",
];

/// Takes a text apart.
pub(super) fn tokens(text: &str) -> Result<Vec<At>, Wrong> {
    let letters: Vec<char> = text.chars().collect();
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(letter) = letters.get(at).copied() {
        let rest = letters.get(at..).unwrap_or_default();
        if letter.is_whitespace() {
            at += 1;
            continue;
        }
        let begin = at + 1;
        let is_raw = matches!(rest, ['r' | 'R', '"' | '\'', ..]);
        let (token, length) = if is_raw || matches!(letter, '"' | '\'') {
            quoted(rest, is_raw).map_err(|message| Wrong {
                column: begin,
                message,
                help: "end it with the quotation mark that it begins with".to_owned(),
            })?
        } else if letter.is_ascii_digit() {
            let is_of_number = |at: &&char| at.is_ascii_digit() || **at == '.';
            let digits: String = rest.iter().take_while(is_of_number).collect();
            let number = digits.parse().map_err(|_| Wrong {
                column: begin,
                message: format!("{digits} is no number"),
                help: "write one, as in 0.5".to_owned(),
            })?;
            (Token::Number(number), digits.len())
        } else if letter.is_ascii_alphabetic() || letter == '_' {
            let is_of_name = |at: &&char| at.is_ascii_alphanumeric() || **at == '_';
            let name: String = rest.iter().take_while(is_of_name).collect();
            let length = name.len();
            (Token::Name(name), length)
        } else {
            let begins = |sign: &&&str| rest.iter().copied().take(sign.len()).eq(sign.chars());
            let Some(sign) = SIGNS.iter().find(begins) else {
                return Err(Wrong {
                    column: begin,
                    message: format!("`{letter}` has no meaning here"),
                    help: "remove it, or quote it".to_owned(),
                });
            };
            (Token::Sign(sign), sign.len())
        };
        tokens.push((begin, token));
        at += length;
    }
    Ok(tokens)
}

/// A text in quotation marks, and its length with them.
fn quoted(rest: &[char], is_raw: bool) -> Result<(Token, usize), String> {
    let begin = usize::from(is_raw);
    let quote = rest.get(begin).copied().unwrap_or('"');
    let mut text = String::new();
    let mut at = begin + 1;
    while let Some(letter) = rest.get(at).copied() {
        at += 1;
        match letter {
            _ if letter == quote => return Ok((Token::Text(text), at)),
            '\\' if !is_raw => {
                let Some(escaped) = rest.get(at).copied() else { break };
                at += 1;
                match escaped {
                    'n' => text.push('\n'),
                    'r' => text.push('\r'),
                    't' => text.push('\t'),
                    '\\' | '\'' | '"' | '`' | '?' => text.push(escaped),
                    // as in an expression that is written without `r`
                    other => text.extend(['\\', other]),
                }
            }
            _ => text.push(letter),
        }
    }
    Err("the text does not end".to_owned())
}
