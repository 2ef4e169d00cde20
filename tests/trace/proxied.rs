//! What a trace says of load balancers that are proxies.

use super::Lab;

const LAB: &str = r#"
[lab]
name = "t"
[cluster]
load-balancer-pools = ["203.0.113.0/28"]
[[node]]
name = "node-a"
[[external]]
name = "client"
address = "198.51.100.7/24"
[[pod]]
metadata = { name = "web", labels = { app = "web" } }
spec.nodeName = "node-a"
[[service]]
metadata = { name = "lb", annotations = { "kswitch.dev/load-balancer-ip-mode" = "MODE" } }
[service.spec]
type = "LoadBalancer"
loadBalancerIP = "203.0.113.5"
selector = { app = "web" }
ports = [{ port = 80, targetPort = 8080 }]
"#;

#[test]
fn what_is_a_proxys_goes_out_to_it() {
    let lab = Lab::new(&LAB.replace("MODE", "Proxy"));
    for from in ["web", "node/node-a"] {
        let report = lab.trace(from, "203.0.113.5:80", "tcp");
        assert_eq!(&*report.verdict, "forward");
        assert_eq!(report.hops.last().unwrap().at, "ext/lb-203-0-113-5", "{from}");
        let told = report.hops.iter().find(|hop| hop.table == "frontends").unwrap();
        assert_eq!(told.rule.as_deref(), Some("ipMode Proxy"));
        assert_eq!((&*told.at, told.object.as_deref()), ("node-a", Some("Service default/lb")));
        assert!(told.line.is_some(), "and where it is written");
    }
    // the port of no Service is nobody's to take over
    let report = lab.trace("web", "203.0.113.5:81", "tcp");
    assert!(report.hops.iter().all(|hop| hop.table != "frontends"));
    let report = lab.trace("ext/client", "203.0.113.5:80", "tcp");
    assert_eq!(report.hops.last().unwrap().at, "ext/lb-203-0-113-5");
}

#[test]
fn what_is_a_vips_does_not() {
    let lab = Lab::new(&LAB.replace("MODE", "VIP"));
    let report = lab.trace("web", "203.0.113.5:80", "tcp");
    assert_eq!(report.endpoint_name.as_deref(), Some("default/web"));
}
