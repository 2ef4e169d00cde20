fn main() {
    let path = std::env::args().nth(1).unwrap();
    let start = std::time::Instant::now();
    let draft = kswitch_config::Draft::read(path.as_ref());
    let read = start.elapsed();
    let result = draft.validate(None);
    eprintln!("read {read:?}, all {:?}", start.elapsed());
    match result {
        Ok(cluster) => {
            eprint!("{}", kswitch_config::render(&cluster.warnings, kswitch_config::Look::Plain));
            if std::env::args().nth(2).is_some() { return; }
            for node in &cluster.nodes { println!("{} {:?} {:?} {:?}", node.name, node.zone, node.addresses, node.pod_ranges); }
            for pod in &cluster.pods { println!("{}/{} {} {:?} ready={}", pod.namespace, pod.name, pod.node, pod.addresses, pod.is_ready()); }
            for service in &cluster.services { println!("{}", serde_json::to_string(&**service).unwrap()); }
            for external in &cluster.externals { println!("{external:?}"); }
        }
        Err(errors) => { print!("{errors}"); std::process::exit(2) }
    }
}
