//! The lab: who is in it, and what is changed in it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::schedule::REPLICAS;

/// The port at which every server of the lab answers.
pub const PORT: u16 = 5000;

/// The colours that take turns.
pub const COLOURS: [&str; 2] = ["blue", "green"];

/// Addresses of Services, IPv4 and IPv6.
#[derive(Clone, Copy, Debug)]
pub struct Service {
    /// Its name.
    pub name: &'static str,
    /// Its addresses.
    pub addresses: [&'static str; 2],
}

/// One server that stays, for connections that stay.
pub const STORE: Service = Service { name: "store", addresses: ["10.8.0.10", "[fd00:8::a10]"] };
/// One server to which policies let one client.
pub const VAULT: Service = Service { name: "vault", addresses: ["10.8.0.11", "[fd00:8::a11]"] };
/// The servers of the colour whose turn it is.
pub const PAINT: Service = Service { name: "paint", addresses: ["10.8.0.12", "[fd00:8::a12]"] };
/// Servers that come and go.
pub const CHURN: Service = Service { name: "churn", addresses: ["10.8.0.13", "[fd00:8::a13]"] };

/// The node that is switched off and on.
pub const NODE: &str = "node-c";

/// The files of a lab, in a directory.
#[derive(Debug)]
pub struct Site {
    /// The name of the lab.
    pub lab: String,
    /// The lab file.
    pub config: PathBuf,
    /// What binds Services and policies to a colour.
    pub paint: PathBuf,
    /// A Service and a policy that nobody uses.
    pub more: PathBuf,
}

impl Site {
    /// Writes the files of a lab whose servers are runs of `program`.
    ///
    /// # Errors
    /// What the system says.
    pub fn write(directory: &Path, lab: &str, program: &Path) -> io::Result<Self> {
        let site = Self {
            lab: lab.to_owned(),
            config: directory.join("lab.toml"),
            paint: directory.join("paint.yaml"),
            more: directory.join("more.yaml"),
        };
        fs::write(&site.config, lab_file(lab, program))?;
        fs::write(&site.more, MORE)?;
        fs::write(directory.join("fixed.yaml"), fixed())?;
        site.paint(0)?;
        Ok(site)
    }

    /// Writes the file that binds Services and policies to a colour.
    ///
    /// # Errors
    /// What the system says.
    pub fn paint(&self, colour: usize) -> io::Result<()> {
        fs::write(&self.paint, painted(colour))
    }

    /// The namespace of a pod.
    pub fn namespace(&self, pod: &str) -> String {
        format!("{}.default.{pod}", self.lab)
    }
}

fn colour(number: usize) -> &'static str {
    let [first, second] = COLOURS;
    if number.is_multiple_of(2) { first } else { second }
}

fn service(service: Service, selector: &str) -> String {
    let Service { name, addresses: [v4, v6] } = service;
    let v6 = v6.trim_matches(['[', ']']);
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec:\n  selector: {selector}\n  \
         ipFamilyPolicy: RequireDualStack\n  clusterIP: {v4}\n  clusterIPs: [{v4}, \"{v6}\"]\n  ports:\n  \
         - {{name: tcp, protocol: TCP, port: {PORT}}}\n  - {{name: udp, protocol: UDP, port: {PORT}}}\n---\n"
    )
}

/// The Service takes this colour's pods, and these alone let clients in. Whoever judged by two
/// generations at once would send a client where it is not let in.
fn painted(number: usize) -> String {
    let (open, closed) = (colour(number), colour(number + 1));
    let mut text = service(PAINT, &format!("{{app: paint, colour: {open}}}"));
    for (name, colour, rule) in [
        ("open", open, "[{from: [{podSelector: {matchLabels: {role: client}}}]}]"),
        ("closed", closed, "[]"),
    ] {
        text.push_str(&format!(
            "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: paint-{name}}}\nspec:\n  \
             podSelector: {{matchLabels: {{app: paint, colour: {colour}}}}}\n  policyTypes: [Ingress]\n  \
             ingress: {rule}\n---\n"
        ));
    }
    text
}

const MORE: &str = "\
apiVersion: v1
kind: Service
metadata: {name: unused}
spec: {selector: {app: nobody}, ports: [{port: 81}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: unused}
spec: {podSelector: {matchLabels: {app: nobody}}, policyTypes: [Ingress, Egress]}
";

fn lab_file(lab: &str, program: &Path) -> String {
    let run =
        format!("[{{ name = \"server\", command = [\"{}\", \"serve\"] }}]", program.display());
    let mut text = format!(
        r#"[lab]
name = "{lab}"
manifests = ["paint.yaml", "fixed.yaml"]

[cluster]
pod-cidrs = ["10.4.0.0/14", "fd00:4::/48"]
service-cidrs = ["10.8.0.0/20", "fd00:8::/112"]

[switch]
metrics = "off"
conntrack-flows = 65536

# what is over is to be forgotten soon, so that what is left at the end of a round is what lives
[switch.timeouts]
tcp-syn-sent = "3s"
tcp-syn-received = "3s"
tcp-fin-wait = "3s"
tcp-close-wait = "3s"
tcp-last-ack = "3s"
tcp-time-wait = "2s"
tcp-close = "2s"
udp = "2s"
udp-stream = "2s"

[dns]
enabled = false

[[node]]
name = "node-a"
[[node]]
name = "node-b"
[[node]]
name = "{NODE}"

[[pod]]
metadata = {{ name = "client", labels = {{ role = "client", may = "enter" }} }}
spec.nodeName = "node-a"
[[pod]]
metadata = {{ name = "fickle", labels = {{ role = "client" }} }}
spec.nodeName = "node-b"
[[pod]]
metadata = {{ name = "thief" }}
spec.nodeName = "node-b"
[[pod]]
metadata = {{ name = "store", labels = {{ app = "store" }} }}
spec = {{ nodeName = "node-b", containers = {run} }}
[[pod]]
metadata = {{ name = "vault", labels = {{ app = "vault" }} }}
spec = {{ nodeName = "node-b", containers = {run} }}

[[deployment]]
metadata = {{ name = "churn" }}
[deployment.spec]
replicas = {REPLICAS}
selector.matchLabels = {{ app = "churn" }}
template.metadata.labels = {{ app = "churn" }}
template.spec = {{ terminationGracePeriodSeconds = 1, containers = {run} }}
"#
    );
    for (number, node) in ["node-a", "node-b"].into_iter().enumerate() {
        for colour in COLOURS {
            text.push_str(&format!(
                "\n[[pod]]\nmetadata = {{ name = \"paint-{colour}-{number}\", labels = {{ app = \"paint\", \
                 colour = \"{colour}\" }} }}\nspec = {{ nodeName = \"{node}\", containers = {run} }}\n"
            ));
        }
    }
    text
}

/// What stays as it is.
fn fixed() -> String {
    let mut text = String::new();
    for (of, app) in [(STORE, "store"), (VAULT, "vault"), (CHURN, "churn")] {
        text.push_str(&service(of, &format!("{{app: {app}}}")));
    }
    text.push_str(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: vault}\nspec:\n  podSelector: \
         {matchLabels: {app: vault}}\n  policyTypes: [Ingress]\n  ingress: [{from: [{podSelector: {matchLabels: \
         {may: enter}}}]}]\n",
    );
    text
}
