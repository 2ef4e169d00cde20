use std::path::Path;

use super::*;

const NOW: &str = "2026-01-02T03:04:05Z";

/// A lab whose pods come up and go away when they are told to.
struct Site {
    draft: Draft,
    cluster: Cluster,
    ready: BTreeSet<String>,
}

impl Site {
    fn new(workload: &str) -> Self {
        let nodes: String =
            ["a", "b", "c"].map(|name| format!("[[node]]\nname = \"{name}\"\n")).concat();
        let text = format!("[lab]\nname = \"t\"\n{nodes}{workload}");
        let draft = Draft::read_text("lab.toml", &text, Path::new("")).in_order();
        let cluster = draft.validate(None).unwrap_or_else(|errors| panic!("{errors}"));
        let mut site = Self { draft, cluster, ready: BTreeSet::new() };
        site.come_up();
        site
    }

    /// All pods that are there become ready.
    fn come_up(&mut self) {
        self.ready = self.cluster.pods.iter().map(|pod| pod.name.clone()).collect();
    }

    /// Takes the steps that can be taken; answers how many there were.
    fn roll_on(&mut self) -> usize {
        for step in 0..100 {
            let mut draft = self.draft.clone();
            let ready = self.ready.clone();
            let how = |pod: &Pod, _: Duration| {
                if ready.contains(&pod.name) { Availability::Available } else { Availability::Not }
            };
            if !draft.roll_on(&self.cluster, &how, NOW).has_changed {
                return step;
            }
            self.become_draft(draft);
        }
        panic!("no end: {:?}", self.names())
    }

    fn become_draft(&mut self, mut draft: Draft) {
        draft.begin_rollouts(&self.draft, &self.cluster);
        let after = draft.validate(Some(&self.cluster)).unwrap();
        draft.end_missing(&self.cluster, &after, NOW);
        self.cluster = draft.validate(Some(&self.cluster)).unwrap();
        self.draft = draft;
        let there: BTreeSet<_> = self.cluster.pods.iter().map(|pod| pod.name.clone()).collect();
        self.ready.retain(|name| there.contains(name));
    }

    /// Those that end have ended; answers how many these were.
    fn bury(&mut self) -> usize {
        let mut draft = self.draft.clone();
        let ending: Vec<_> =
            self.cluster.pods.iter().filter(|pod| pod.is_terminating()).cloned().collect();
        for pod in &ending {
            draft.delete(Kind::Pod, &pod.namespace, &pod.name);
            self.ready.remove(&pod.name);
        }
        self.become_draft(draft);
        ending.len()
    }

    fn restart(&mut self, kind: Kind, name: &str, time: &str) {
        let mut draft = self.draft.clone();
        assert!(draft.restart(kind, "default", name, time));
        self.become_draft(draft);
    }

    fn scale(&mut self, kind: Kind, name: &str, replicas: i32) {
        let mut draft = self.draft.clone();
        assert!(draft.scale(kind, "default", name, replicas));
        self.become_draft(draft);
    }

    fn names(&self) -> BTreeSet<String> {
        let pods = self.cluster.pods.iter().filter(|pod| !pod.is_terminating());
        pods.map(|pod| pod.name.clone()).collect()
    }

    fn available(&self) -> usize {
        self.names().intersection(&self.ready).count()
    }

    fn ending(&self) -> Vec<&str> {
        let pods = self.cluster.pods.iter().filter(|pod| pod.is_terminating());
        pods.map(|pod| pod.name.as_str()).collect()
    }

    /// When a pod's template says that it was made anew.
    fn times(&self) -> Vec<String> {
        let key = "kubectl.kubernetes.io/restartedAt";
        let time = |pod: &Arc<Pod>| {
            let annotations = pod.object.metadata.annotations.as_ref();
            annotations.and_then(|all| all.get(key)).cloned().unwrap_or_default()
        };
        let pods = self.cluster.pods.iter().filter(|pod| !pod.is_terminating());
        let mut times: Vec<_> = pods.map(|pod| (pod.name.clone(), time(pod))).collect();
        times.sort();
        times.into_iter().map(|(_, time)| time).collect()
    }
}

fn deployment(strategy: &str) -> Site {
    Site::new(&format!(
        "[[deployment]]\nmetadata = {{ name = \"web\" }}\n[deployment.spec]\nreplicas = 10\n\
         selector.matchLabels = {{ app = \"web\" }}\ntemplate.metadata.labels = {{ app = \"web\" }}\n\
         template.spec.containers = [{{ name = \"c\" }}]\n{strategy}"
    ))
}

fn members(more: &str, command: &str) -> Site {
    Site::new(&format!(
        "[[stateful-set]]\nmetadata = {{ name = \"db\" }}\n[stateful-set.spec]\nreplicas = 3\n\
         serviceName = \"db\"\nselector.matchLabels = {{ app = \"db\" }}\n\
         template.metadata.labels = {{ app = \"db\" }}\n\
         template.spec.containers = [{{ name = \"c\"{command} }}]\n{more}"
    ))
}

#[test]
fn a_rollout_keeps_within_its_bounds() {
    for (strategy, most, least) in [
        ("", 13, 8),
        ("strategy.rollingUpdate = { maxSurge = 1, maxUnavailable = 0 }", 11, 10),
        ("strategy.rollingUpdate = { maxSurge = 0, maxUnavailable = \"30%\" }", 10, 7),
        ("strategy.rollingUpdate = { maxSurge = \"100%\", maxUnavailable = 0 }", 20, 10),
        // both cannot be nothing
        ("strategy.rollingUpdate = { maxSurge = 0, maxUnavailable = 0 }", 10, 9),
    ] {
        let mut site = deployment(strategy);
        let before = site.names();
        site.restart(Kind::Deployment, "web", "1");
        assert_eq!(site.names(), before, "nothing happens at once");
        let (mut seen_most, mut seen_least) = (0, 10);
        for _ in 0..100 {
            site.roll_on();
            seen_most = seen_most.max(site.names().len());
            seen_least = seen_least.min(site.available());
            site.come_up();
            if !site.draft.has_rollouts() {
                break;
            }
        }
        assert!(!site.draft.has_rollouts(), "{strategy}");
        assert_eq!((seen_most, seen_least), (most, least), "{strategy}");
        assert!(site.names().len() == 10 && site.names().is_disjoint(&before));
        assert_eq!(site.bury(), 10);
        assert_eq!(site.names().len(), 10);
    }
}

#[test]
fn what_never_comes_up_stops_a_rollout_and_can_be_taken_back() {
    let mut site = deployment("");
    let before = site.names();
    let template = site.draft.clone();
    site.restart(Kind::Deployment, "web", "1");
    for _ in 0..10 {
        site.roll_on();
    }
    // 13 at most, of which the 5 new ones are not ready, and 8 of before at least
    assert_eq!((site.names().len(), site.available()), (13, 8));
    let stuck: BTreeSet<_> = site.names().intersection(&before).cloned().collect();
    // a third one replaces those that do not do well first
    site.restart(Kind::Deployment, "web", "2");
    site.roll_on();
    assert_eq!(site.available(), 8);
    assert!(site.times().iter().all(|time| time != "1"), "{:?}", site.times());
    // and back to the first: those that are still there stay
    let mut draft = site.draft.clone();
    let key = KeyRef { namespace: "default", name: "web" };
    let old = template.of(Kind::Deployment).get(&key).cloned().unwrap();
    *draft.of_mut(Kind::Deployment).get_mut(&key).unwrap() = Arc::new(Entry::clone(&old));
    site.become_draft(draft);
    for _ in 0..10 {
        site.roll_on();
        site.come_up();
    }
    assert!(!site.draft.has_rollouts());
    assert!(site.names().len() == 10 && site.names().is_superset(&stuck));
}

#[test]
fn all_at_once_leaves_nothing_of_both() {
    let mut site = deployment("strategy.type = \"Recreate\"");
    let before = site.names();
    site.restart(Kind::Deployment, "web", "1");
    site.roll_on();
    assert_eq!((site.names().len(), site.ending().len()), (0, 10));
    site.bury();
    site.roll_on();
    assert!(site.names().len() == 10 && site.names().is_disjoint(&before));
    assert!(!site.draft.has_rollouts());
}

#[test]
fn a_paused_deployment_waits() {
    let mut site = deployment("paused = true");
    let before = site.names();
    site.restart(Kind::Deployment, "web", "1");
    site.roll_on();
    assert_eq!(site.names(), before);
}

#[test]
fn members_come_and_go_in_order() {
    let mut site = members("", ", command = [\"sleep\", \"1\"]");
    for count in 1..=3 {
        assert_eq!(site.names().len(), count);
        site.ready.clear();
        assert_eq!(site.roll_on(), 0, "the next waits");
        site.come_up();
        site.roll_on();
    }
    assert!(!site.draft.has_rollouts());
    site.scale(Kind::StatefulSet, "db", 1);
    site.roll_on();
    assert_eq!((site.ending(), site.names().len()), (vec!["db-2"], 2));
    site.roll_on();
    assert_eq!(site.ending(), ["db-2"], "one has to be gone before the next goes");
    site.bury();
    site.roll_on();
    assert_eq!(site.ending(), ["db-1"]);
    site.bury();
    site.roll_on();
    assert!(site.names() == ["db-0".to_owned()].into() && !site.draft.has_rollouts());
    site.scale(Kind::StatefulSet, "db", 2);
    site.ready.clear();
    site.roll_on();
    assert_eq!(site.names().len(), 1);
    site.come_up();
    site.roll_on();
    assert_eq!(site.names().len(), 2);
    // those that do not wait for each other do not
    let mut site = members("podManagementPolicy = \"Parallel\"", ", command = [\"sleep\", \"1\"]");
    assert_eq!(site.names().len(), 3);
    site.scale(Kind::StatefulSet, "db", 1);
    assert_eq!(site.ending().len(), 2);
}

#[test]
fn members_change_over_from_the_last_to_the_first() {
    let mut site = members("updateStrategy.rollingUpdate.partition = 1", "");
    let old = site.cluster.pod("default", "db-2").unwrap().addresses.clone();
    site.restart(Kind::StatefulSet, "db", "1");
    assert_eq!(site.times(), ["", "", ""]);
    for ordinal in [2, 1] {
        site.roll_on();
        assert_eq!(site.ending(), [format!("db-{ordinal}")]);
        site.roll_on();
        assert_eq!(site.ending().len(), 1);
        site.bury();
        site.ready.remove(&format!("db-{ordinal}"));
        assert_eq!(site.roll_on(), 0, "the next waits");
        site.come_up();
    }
    site.roll_on();
    assert_eq!(
        (site.times(), site.ending().len()),
        (vec![String::new(), "1".into(), "1".into()], 0)
    );
    let _ = old;
    // who is below the partition comes again as it was
    let mut draft = site.draft.clone();
    draft.end_pod(&site.cluster, "default", "db-0", None, NOW).unwrap();
    site.become_draft(draft);
    site.bury();
    assert_eq!(site.times(), ["", "1", "1"]);

    let mut site = members("updateStrategy.type = \"OnDelete\"", "");
    site.restart(Kind::StatefulSet, "db", "1");
    site.roll_on();
    assert_eq!((site.times(), site.ending().len()), (vec![String::new(); 3], 0));
    let mut draft = site.draft.clone();
    draft.end_pod(&site.cluster, "default", "db-1", None, NOW).unwrap();
    site.become_draft(draft);
    site.bury();
    assert_eq!(site.times(), ["", "1", ""]);
}

#[test]
fn daemons_change_over_node_by_node() {
    let mut site = Site::new(
        "[[daemon-set]]\nmetadata = { name = \"agent\" }\n[daemon-set.spec]\n\
         selector.matchLabels = { app = \"agent\" }\ntemplate.metadata.labels = { app = \"agent\" }\n\
         template.spec.containers = [{ name = \"c\" }]\n",
    );
    site.restart(Kind::DaemonSet, "agent", "1");
    for _ in 0..3 {
        site.roll_on();
        assert_eq!(site.ending().len(), 1);
        let who = site.ending()[0].to_owned();
        site.bury();
        site.ready.remove(&who);
        assert_eq!(site.roll_on(), 0, "the next waits");
        site.come_up();
    }
    site.roll_on();
    assert_eq!((site.times(), site.draft.has_rollouts()), (vec!["1".to_owned(); 3], false));
}
