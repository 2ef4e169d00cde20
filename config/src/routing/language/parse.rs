//! From words to a condition: what stands where a truth, a text or a number has to.

use ipnet::IpNet;
use regex::Regex;

use super::token::{At, Token, tokens};
use super::{Attribute, Change, Comparison, Kind, Search, Term, Wrong};

/// Parts that may be within each other.
const DEPTH: usize = 64;

/// Letters of a condition at most.
///
/// Source: Google Cloud Armor, "Quotas and limits".
const LETTERS: usize = 2_048;

/// Reads a condition, and what of it has no value here.
pub(super) fn parse(text: &str) -> Result<(Term, Vec<String>), Wrong> {
    if text.chars().count() > LETTERS {
        let message = format!("the condition has more than {LETTERS} letters");
        return Err(Wrong { column: 1, message, help: "write several rules".to_owned() });
    }
    let end = text.chars().count() + 1;
    let mut reader = Reader { tokens: tokens(text)?, end, next: 0, depth: 0, unknown: Vec::new() };
    let column = reader.column();
    let term = reader.any()?;
    if let Some((column, token)) = reader.peek() {
        let message = format!("{} is not expected here", shown(token));
        let help = "join conditions by && or ||".to_owned();
        return Err(Wrong { column: *column, message, help });
    }
    expect(&term, Kind::Truth, column)?;
    Ok((term, reader.unknown))
}

struct Reader {
    tokens: Vec<At>,
    /// The letter behind the last one.
    end: usize,
    next: usize,
    depth: usize,
    unknown: Vec<String>,
}

fn shown(token: &Token) -> String {
    match token {
        Token::Name(name) => format!("`{name}`"),
        Token::Text(text) => format!("{text:?}"),
        Token::Number(number) => number.to_string(),
        Token::Sign(sign) => format!("`{sign}`"),
    }
}

fn wrong<T>(
    column: usize,
    message: impl Into<String>,
    help: impl Into<String>,
) -> Result<T, Wrong> {
    Err(Wrong { column, message: message.into(), help: help.into() })
}

fn expect(term: &Term, kind: Kind, column: usize) -> Result<(), Wrong> {
    if term.kind() == kind {
        return Ok(());
    }
    let message = format!("{} stands where {} has to", term.kind().name(), kind.name());
    wrong(column, message, "compare it, as in request.method == 'POST'")
}

impl Reader {
    fn peek(&self) -> Option<&At> {
        self.tokens.get(self.next)
    }

    /// The letter at which the next word begins; behind the last one at the end.
    fn column(&self) -> usize {
        self.peek().map_or(self.end, |(column, _)| *column)
    }

    fn take(&mut self, sign: &str) -> bool {
        let is_it = matches!(self.peek(), Some((_, Token::Sign(at))) if *at == sign);
        self.next += usize::from(is_it);
        is_it
    }

    fn must(&mut self, sign: &str) -> Result<(), Wrong> {
        if self.take(sign) {
            return Ok(());
        }
        wrong(self.column(), format!("`{sign}` is missing"), format!("write `{sign}`"))
    }

    fn deeper(&mut self) -> Result<(), Wrong> {
        self.depth += 1;
        if self.depth > DEPTH {
            return wrong(self.column(), "too much is within each other", "write several rules");
        }
        Ok(())
    }

    fn any(&mut self) -> Result<Term, Wrong> {
        self.deeper()?;
        let mut column = self.column();
        let mut term = self.all()?;
        while self.take("||") {
            expect(&term, Kind::Truth, column)?;
            column = self.column();
            let other = self.all()?;
            expect(&other, Kind::Truth, column)?;
            term = Term::Or(term.into(), other.into());
        }
        self.depth -= 1;
        Ok(term)
    }

    fn all(&mut self) -> Result<Term, Wrong> {
        let mut column = self.column();
        let mut term = self.relation()?;
        while self.take("&&") {
            expect(&term, Kind::Truth, column)?;
            column = self.column();
            let other = self.relation()?;
            expect(&other, Kind::Truth, column)?;
            term = Term::And(term.into(), other.into());
        }
        Ok(term)
    }

    fn relation(&mut self) -> Result<Term, Wrong> {
        let term = self.sum()?;
        let comparisons = [
            ("==", Comparison::Equal),
            ("!=", Comparison::Unequal),
            ("<=", Comparison::LessOrEqual),
            (">=", Comparison::MoreOrEqual),
            ("<", Comparison::Less),
            (">", Comparison::More),
        ];
        let found = comparisons.into_iter().find(|(sign, _)| self.take(sign));
        let Some((_, comparison)) = found else { return Ok(term) };
        let column = self.column();
        let other = self.sum()?;
        if other.kind() != term.kind() {
            let (a, b) = (term.kind().name(), other.kind().name());
            return wrong(column, format!("{a} is compared with {b}"), "compare what is alike");
        }
        Ok(Term::Compare(comparison, term.into(), other.into()))
    }

    fn sum(&mut self) -> Result<Term, Wrong> {
        let mut term = self.unary()?;
        while self.take("+") {
            let column = self.column();
            let other = self.unary()?;
            if other.kind() != term.kind() || other.kind() == Kind::Truth {
                return wrong(column, "these cannot be added", "add texts, or numbers");
            }
            term = Term::Sum(term.into(), other.into());
        }
        Ok(term)
    }

    fn unary(&mut self) -> Result<Term, Wrong> {
        if self.take("!") {
            self.deeper()?;
            let column = self.column();
            let term = self.unary()?;
            self.depth -= 1;
            expect(&term, Kind::Truth, column)?;
            return Ok(Term::Not(term.into()));
        }
        let mut term = self.primary()?;
        while self.take(".") {
            term = self.method(term)?;
        }
        Ok(term)
    }

    fn primary(&mut self) -> Result<Term, Wrong> {
        let column = self.column();
        if self.take("(") {
            let term = self.any()?;
            self.must(")")?;
            return Ok(term);
        }
        let is_negative = self.take("-");
        let Some((_, token)) = self.peek().cloned() else {
            return wrong(column, "the condition ends here", "write what is missing");
        };
        self.next += 1;
        match token {
            Token::Number(number) if is_negative => Ok(Term::Number(-number)),
            Token::Number(number) => Ok(Term::Number(number)),
            Token::Text(text) if !is_negative => Ok(Term::Text(text)),
            Token::Name(name) if !is_negative => match name.as_str() {
                "true" => Ok(Term::Truth(true)),
                "false" => Ok(Term::Truth(false)),
                _ if self.take("(") => self.function(&name, column),
                _ => self.attribute(&name, column),
            },
            other => {
                let message = format!("{} is not expected here", shown(&other));
                wrong(column, message, "write an attribute, as in request.path")
            }
        }
    }

    /// A name behind a dot, and where it stands.
    fn name(&mut self) -> Result<(usize, String), Wrong> {
        let column = self.column();
        let found = match self.peek() {
            Some((_, Token::Name(name))) => Some(name.clone()),
            _ => None,
        };
        self.next += 1;
        match found {
            Some(name) => Ok((column, name)),
            None => wrong(column, "a name is missing", "write one, as in request.path"),
        }
    }

    fn attribute(&mut self, first: &str, column: usize) -> Result<Term, Wrong> {
        const KNOWN: &str = "known are origin.ip, request.method, request.path, request.query, \
                             request.scheme and request.headers['name']";
        if !self.take(".") {
            return wrong(column, format!("`{first}` is not known"), KNOWN);
        }
        let (_, second) = self.name()?;
        let name = format!("{first}.{second}");
        let unknown = |reader: &mut Self, kind| {
            reader.unknown.push(name.clone());
            Ok(Term::Unknown(kind))
        };
        Ok(Term::Attribute(match name.as_str() {
            "origin.ip" | "origin.user_ip" => Attribute::Address,
            "request.method" => Attribute::Method,
            "request.path" => Attribute::Path,
            "request.query" => Attribute::Query,
            "request.scheme" => Attribute::Scheme,
            "request.headers" => {
                self.must("[")?;
                let column = self.column();
                let Some((_, Token::Text(key))) = self.peek().cloned() else {
                    return wrong(column, "the name of a field is missing", "write ['user-agent']");
                };
                self.next += 1;
                self.must("]")?;
                return Ok(Term::Header(key.to_ascii_lowercase()));
            }
            "origin.region_code"
            | "origin.tls_ja3_fingerprint"
            | "origin.tls_ja4_fingerprint"
            | "request.body" => {
                return unknown(self, Kind::Text);
            }
            "origin.asn" => return unknown(self, Kind::Number),
            _ if first == "token" => {
                // token.recaptcha_session.score, and others alike
                let mut last = second;
                while self.take(".") {
                    (_, last) = self.name()?;
                }
                let kind = match last.as_str() {
                    "score" => Kind::Number,
                    "valid" => Kind::Truth,
                    _ => Kind::Text,
                };
                return unknown(self, kind);
            }
            _ => return wrong(column, format!("`{name}` is not known"), KNOWN),
        }))
    }

    /// What stands within the brackets of a call, each with its place.
    fn arguments(&mut self) -> Result<Vec<(usize, Term)>, Wrong> {
        let mut all = Vec::new();
        if self.take(")") {
            return Ok(all);
        }
        loop {
            all.push((self.column(), self.any()?));
            if !self.take(",") {
                self.must(")")?;
                return Ok(all);
            }
        }
    }

    fn function(&mut self, name: &str, column: usize) -> Result<Term, Wrong> {
        if name.starts_with("evaluate") {
            // their arguments are of a language of their own
            let mut open = 1_usize;
            while open > 0 {
                match self.peek() {
                    Some((_, Token::Sign("("))) => open += 1,
                    Some((_, Token::Sign(")"))) => open -= 1,
                    Some(_) => {}
                    None => return wrong(self.column(), "`)` is missing", "write `)`"),
                }
                self.next += 1;
            }
            self.unknown.push(format!("{name}()"));
            return Ok(Term::Unknown(Kind::Truth));
        }
        let arguments = self.arguments()?;
        match (name, <[_; 1]>::try_from(arguments)) {
            ("has", Ok([(_, term)])) => Ok(Term::Has(term.into())),
            ("size", Ok([(at, term)])) => {
                expect(&term, Kind::Text, at)?;
                Ok(Term::Size(term.into()))
            }
            ("int", Ok([(at, term)])) => {
                expect(&term, Kind::Text, at)?;
                Ok(Term::Int(term.into()))
            }
            ("inIpRange", Err(arguments)) => in_range(arguments, column),
            ("has" | "size" | "int" | "inIpRange", _) => {
                let help = "write inIpRange(origin.ip, '192.0.2.0/24'), has(x), size(x) or int(x)";
                wrong(column, format!("`{name}` has other arguments"), help)
            }
            _ => {
                let help = "known are inIpRange, has, size and int";
                wrong(column, format!("`{name}` is not known"), help)
            }
        }
    }

    fn method(&mut self, on: Term) -> Result<Term, Wrong> {
        const KNOWN: &str = "known are contains, startsWith, endsWith, matches, lower, upper, \
                             urlDecode, base64Decode and size";
        let (column, name) = self.name()?;
        self.must("(")?;
        let arguments = self.arguments()?;
        expect(&on, Kind::Text, column)?;
        let search = match name.as_str() {
            "contains" => Some(Search::Contains),
            "startsWith" => Some(Search::Begins),
            "endsWith" => Some(Search::Ends),
            _ => None,
        };
        let change = match name.as_str() {
            "lower" => Some(Change::Lower),
            "upper" => Some(Change::Upper),
            "urlDecode" | "urlDecodeUni" => Some(Change::UrlDecoded),
            "base64Decode" => Some(Change::Base64Decoded),
            _ => None,
        };
        let is_alone = arguments.is_empty();
        let argument = <[_; 1]>::try_from(arguments).ok();
        match (name.as_str(), search, change, argument) {
            (_, Some(how), _, Some([(at, term)])) => {
                expect(&term, Kind::Text, at)?;
                Ok(Term::Search(how, on.into(), term.into()))
            }
            (_, _, Some(change), _) if is_alone => Ok(Term::Change(change, on.into())),
            ("size", ..) if is_alone => Ok(Term::Size(on.into())),
            ("matches", _, _, Some([(at, Term::Text(text))])) => match Regex::new(&text) {
                Ok(expression) => Ok(Term::Matches(on.into(), expression)),
                Err(_) => {
                    let message = format!("{text:?} is not a regular expression");
                    wrong(at, message, "write an expression in RE2's syntax")
                }
            },
            ("matches", ..) | (_, Some(_), ..) => {
                wrong(column, format!("`{name}` has one argument, a text"), KNOWN)
            }
            ("size", ..) | (_, _, Some(_), _) => {
                wrong(column, format!("`{name}` has no arguments"), KNOWN)
            }
            _ => wrong(column, format!("`{name}` is not known"), KNOWN),
        }
    }
}

fn in_range(arguments: Vec<(usize, Term)>, column: usize) -> Result<Term, Wrong> {
    let help = "write inIpRange(origin.ip, '192.0.2.0/24')";
    let Ok([(at, term), (of, Term::Text(range))]) = <[_; 2]>::try_from(arguments) else {
        return wrong(column, "`inIpRange` has an address and a range", help);
    };
    expect(&term, Kind::Text, at)?;
    match range.parse::<IpNet>() {
        Ok(range) => Ok(Term::InRange(term.into(), range.trunc())),
        Err(_) => wrong(of, format!("{range:?} is not a range of addresses"), help),
    }
}
