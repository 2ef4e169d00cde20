//! gRPC through the HTTP(S) load balancer, as a real client and a real server speak it.

use kswitch::agents::proxy::authority::{Issued, self_signed};
use libtest_mimic::Failed;
use serde_json::Value;

use crate::Test;
use crate::lab::{Lab, fresh_name, until};

pub(crate) const TESTS: &[Test] =
    &[("calls of gRPC are made and stream both ways", &["/usr/bin/python3:grpc"], calls)];

/// Python as the system has it, with the modules that its packages bring.
const PYTHON: &str = "/usr/bin/python3";

/// Answers calls without TLS and in TLS, and health checks beside them.
const SERVER: &str = r#"
import concurrent.futures, grpc, http.server, sys, threading
def unary(request, context):
    asked = dict(context.invocation_metadata()).get("asked", "nothing")
    context.set_trailing_metadata((("told", asked),))
    if request == b"nobody":
        context.abort(grpc.StatusCode.NOT_FOUND, "nobody is there")
    return request[::-1]
def out(request, context):
    for at in range(int(request)):
        yield b"%d" % at
def into(requests, context):
    return b"%d" % sum(len(request) for request in requests)
def both(requests, context):
    for request in requests:
        yield request.upper()
handlers = {
    "Unary": grpc.unary_unary_rpc_method_handler(unary),
    "Out": grpc.unary_stream_rpc_method_handler(out),
    "In": grpc.stream_unary_rpc_method_handler(into),
    "Both": grpc.stream_stream_rpc_method_handler(both),
}
server = grpc.server(concurrent.futures.ThreadPoolExecutor(16))
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("lab.Calls", handlers),))
server.add_insecure_port("0.0.0.0:50051")
pair = tuple(open(sys.argv[1] + end, "rb").read() for end in (".key", ".crt"))
server.add_secure_port("0.0.0.0:50052", grpc.ssl_server_credentials([pair]))
server.start()
class Health(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_): pass
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
http.server.HTTPServer(("", 8080), Health).serve_forever()
"#;

/// Makes calls of each sort, and says which went as they should.
const CLIENT: &str = r#"
import grpc, queue, sys
target, ca = sys.argv[1:3]
options = [("grpc.enable_http_proxy", 0)]
if ca == "-":
    channel = grpc.insecure_channel(target, options)
else:
    options.append(("grpc.ssl_target_name_override", "shop.example"))
    credentials = grpc.ssl_channel_credentials(open(ca, "rb").read())
    channel = grpc.secure_channel(target, credentials, options)
where = "/lab.Calls/"
unary = channel.unary_unary(where + "Unary")
reply, call = unary.with_call(b"hello", timeout=30, metadata=(("asked", "something"),))
assert reply == b"olleh", reply
assert ("told", "something") in [tuple(pair) for pair in call.trailing_metadata()], call.trailing_metadata()
big = bytes(range(256)) * 8192
assert unary(big, timeout=30) == big[::-1]
print("unary")
try:
    unary(b"nobody", timeout=30)
    raise SystemExit("no error")
except grpc.RpcError as error:
    assert error.code() == grpc.StatusCode.NOT_FOUND, error
    assert error.details() == "nobody is there", error
print("status")
assert [int(at) for at in channel.unary_stream(where + "Out")(b"1000", timeout=30)] == list(range(1000))
print("out")
pieces = (b"x" * 1000 for _ in range(1000))
assert channel.stream_unary(where + "In")(pieces, timeout=30) == b"1000000"
print("in")
said = queue.Queue()
replies = channel.stream_stream(where + "Both")(iter(said.get, None), timeout=30)
for word in (b"one", b"two", b"three"):
    said.put(word)
    # each answer is there before the next is asked for
    assert next(replies) == word.upper()
said.put(None)
assert list(replies) == []
print("both")
try:
    channel.unary_unary("/lab.Others/Unary")(b"x", timeout=30)
    raise SystemExit("no error")
except grpc.RpcError as error:
    assert error.code() == grpc.StatusCode.UNIMPLEMENTED, error
print("unknown")
"#;

fn lab(server: &str, pair: &str) -> Result<Lab, Failed> {
    let name = fresh_name();
    let text = format!(
        r#"
[lab]
name = "{name}"

[switch]
metrics = "off"

[cluster]
load-balancer-pools = ["203.0.113.0/28"]

[[node]]
name = "node-a"

[[pod]]
metadata = {{ name = "calls", labels = {{ app = "calls" }} }}
[[pod.spec.containers]]
name = "calls"
command = ["{PYTHON}", "{server}", "{pair}"]
ports = [{{ containerPort = 50051 }}, {{ containerPort = 50052 }}, {{ containerPort = 8080 }}]
readinessProbe = {{ httpGet = {{ port = 8080, path = "/" }}, periodSeconds = 1 }}

[[service]]
spec = {{ selector = {{ app = "calls" }}, ports = [{{ name = "grpc", port = 80, targetPort = 50051, appProtocol = "kubernetes.io/h2c" }}] }}
[service.metadata]
name = "plain"
annotations = {{ "cloud.google.com/backend-config" = '{{"default": "calls"}}' }}

[[service]]
spec = {{ selector = {{ app = "calls" }}, ports = [{{ name = "grpc", port = 443, targetPort = 50052 }}] }}
[service.metadata]
name = "secure"
annotations = {{ "cloud.google.com/backend-config" = '{{"default": "calls"}}', "cloud.google.com/app-protocols" = '{{"grpc": "HTTP2"}}' }}

[[backend-config]]
metadata = {{ name = "calls" }}
spec = {{ healthCheck = {{ type = "HTTP", port = 8080, requestPath = "/" }} }}

[[ingress]]
spec = {{ defaultBackend = {{ service = {{ name = "secure", port = {{ number = 443 }} }} }} }}
[ingress.metadata]
name = "web"
annotations = {{ "networking.gke.io/managed-certificates" = "shop" }}

[[managed-certificate]]
metadata = {{ name = "shop" }}
spec = {{ domains = ["shop.example"] }}

[[gateway]]
metadata = {{ name = "edge" }}
[gateway.spec]
gatewayClassName = "kswitch"
listeners = [{{ name = "http", port = 80, protocol = "HTTP" }}]

[[grpc-route]]
metadata = {{ name = "calls" }}
[grpc-route.spec]
parentRefs = [{{ name = "edge" }}]
rules = [{{ matches = [{{ method = {{ service = "lab.Calls" }} }}], backendRefs = [{{ name = "plain", port = 80 }}] }}]

[[external]]
name = "internet"
address = "198.51.100.7/24"
"#
    );
    Lab::start(&name, &text)
}

fn address(object: &str, at: &str) -> Result<String, Failed> {
    let object: Value = serde_json::from_str(object)?;
    let address = object.pointer(at).and_then(Value::as_str);
    Ok(address.ok_or("there is no address")?.to_owned())
}

fn calls() -> Result<(), Failed> {
    let directory = tempfile::tempdir()?;
    let file = |name: &str| directory.path().join(name).display().to_string();
    std::fs::write(file("server.py"), SERVER)?;
    std::fs::write(file("client.py"), CLIENT)?;
    let Issued { certificate, key } = self_signed(&["backend.example".to_owned()])?;
    std::fs::write(file("own.crt"), certificate)?;
    std::fs::write(file("own.key"), key)?;
    let lab = lab(&file("server.py"), &file("own"))?;
    std::fs::write(file("ca.crt"), lab.ask(&["get", "ca"])?)?;
    let gateway = lab.ask(&["get", "gateway", "edge", "-o", "json"])?;
    let gateway = address(&gateway, "/status/addresses/0/value")?;
    let ingress = lab.ask(&["get", "ingress", "web", "-o", "json"])?;
    let ingress = address(&ingress, "/status/loadBalancer/ingress/0/ip")?;
    until("both Services have their backend", || {
        let backends = lab.get("backendservices")?;
        let has_one = |at: &Value| at["backends"].as_array().is_some_and(|all| !all.is_empty());
        Ok(backends.iter().filter(|at| has_one(at)).count() >= 2)
    })?;
    let (client, ca) = (file("client.py"), file("ca.crt"));
    let all = "unary\nstatus\nout\nin\nboth\nunknown\n";
    for (target, ca) in [(format!("{gateway}:80"), "-"), (format!("{ingress}:443"), ca.as_str())] {
        let said = lab.ask(&["exec", "ext/internet", "--", PYTHON, &client, &target, ca])?;
        assert_eq!(said, all, "{target}");
    }
    Ok(())
}
