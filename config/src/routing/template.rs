//! Fields of heads whose values have variables.

/// A field that is added to a head, as in `x-client: {client_ip_address}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderTemplate {
    /// Its name, in lower case.
    pub name: String,
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Variable(String),
}

impl HeaderTemplate {
    /// Reads `name:value`.
    pub(super) fn new(line: &str) -> Option<Self> {
        let (name, mut rest) = line.split_once(':')?;
        let mut parts = Vec::new();
        while let Some((text, after)) = rest.split_once('{') {
            let Some((variable, after)) = after.split_once('}') else { break };
            parts.push(Part::Text(text.to_owned()));
            parts.push(Part::Variable(variable.trim().to_owned()));
            rest = after;
        }
        parts.push(Part::Text(rest.to_owned()));
        Some(Self { name: name.trim().to_ascii_lowercase(), parts })
    }

    /// Its value; variables that are not known stand for nothing.
    ///
    /// Source: Google Cloud, "Variables" of custom headers.
    pub fn value(&self, variable: impl Fn(&str) -> Option<String>) -> String {
        let mut value = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => value.push_str(text),
                Part::Variable(name) => value.push_str(&variable(name).unwrap_or_default()),
            }
        }
        value.trim().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_filled_in() {
        let template =
            HeaderTemplate::new("X-Client: {client_ip_address};{nothing} at {port").unwrap();
        assert_eq!(template.name, "x-client");
        let value =
            template.value(|name| (name == "client_ip_address").then(|| "192.0.2.1".into()));
        assert_eq!(value, "192.0.2.1; at {port");
        assert_eq!(HeaderTemplate::new("no colon"), None);
    }
}
