//! Two tiny API servers in memory, the real decisions in between, and random schedules: changes by users and by the
//! provider, lists that are complete late or stale, providers that go away, agents that die between decision and write.
//! Whatever the schedule: both sides agree in the end, nothing is lost by absence, and then nothing is written any more.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{
    Side,
    decide::{Action, Memory, Target, Terms, decide},
    digest::Digest,
    intent::Teardown,
    status::{Generations, StatusKey},
    summary::{Belongs, ConsumerSummary, ProviderSummary},
};

const NAMES: [&str; 3] = ["a", "b", "c"];

#[derive(Clone, Debug, PartialEq)]
struct Object {
    uid: u32,
    revision: u32,
    generation: i64,
    spec: u8,
    status: Option<(u8, i64)>,
    deleting: bool,
    finalizer: bool,
    provider_finalizer: bool,
    foreign: bool,
}

#[derive(Clone, Debug, Default)]
struct Server {
    objects: BTreeMap<&'static str, Object>,
    clock: u32,
}

impl Server {
    fn tick(&mut self) -> u32 {
        self.clock += 1;
        self.clock
    }

    fn touch(&mut self, name: &'static str, change: impl FnOnce(&mut Object)) {
        let now = self.tick();
        if let Some(object) = self.objects.get_mut(name) {
            let before = object.clone();
            change(object);
            if *object == before {
                return;
            }
            object.revision = now;
            if object.spec != before.spec || object.deleting != before.deleting {
                object.generation += 1;
            }
            if object.deleting && !object.finalizer && !object.provider_finalizer {
                self.objects.remove(name);
            }
        }
    }

    fn create(&mut self, name: &'static str, spec: u8, foreign: bool) -> bool {
        if self.objects.contains_key(name) {
            return false;
        }
        let now = self.tick();
        self.objects.insert(
            name,
            Object {
                uid: now,
                revision: now,
                generation: 1,
                spec,
                status: None,
                deleting: false,
                finalizer: false,
                provider_finalizer: false,
                foreign,
            },
        );
        true
    }
}

fn status_key(status: Option<(u8, i64)>) -> StatusKey {
    match status {
        None => StatusKey { digest: None, generations: Box::new([]) },
        Some((value, generation)) => {
            StatusKey { digest: Some(Digest::of_bytes(&[value])), generations: Box::new([generation]) }
        }
    }
}

fn consumer_summary(object: &Object) -> ConsumerSummary {
    ConsumerSummary {
        uid: object.uid.to_string(),
        revision: object.revision.to_string(),
        generation: object.generation,
        deleting: object.deleting,
        finalizer: object.finalizer,
        other_finalizers: false,
        provider_namespace: object.finalizer.then(|| "p".to_owned()),
        desired: Digest::of_bytes(&[object.spec]),
        status: status_key(object.status),
        references: Box::new([]),
    }
}

fn provider_summary(object: &Object) -> ProviderSummary {
    ProviderSummary {
        uid: object.uid.to_string(),
        revision: object.revision.to_string(),
        generation: object.generation,
        deleting: object.deleting,
        belongs: if object.foreign { Belongs::Foreign } else { Belongs::Ours { consumer_uid: String::new() } },
        owned: (!object.foreign).then(|| Digest::of_bytes(&[object.spec])),
        needs_migration: false,
        status: status_key(object.status),
    }
}

/// What happens in the world, besides the agent.
#[derive(Clone, Debug)]
enum Step {
    Create(usize, u8),
    /// The API server gives the finalizer (a policy of the binding).
    Born(usize, u8),
    Change(usize, u8),
    Delete(usize),
    ProviderStatus(usize, u8),
    ProviderEdits(usize, u8),
    ProviderHolds(usize),
    ProviderLetsGo(usize),
    ForeignAppears(usize),
    /// The agent's view of one side catches up.
    SeeConsumer,
    SeeProvider,
    /// One side becomes unknown (a restart, a provider that is away).
    LoseConsumer,
    LoseProvider,
    /// The agent decides about one name and carries out at most this many of the actions, then dies if told so.
    Work(usize, usize, bool),
}

fn step() -> impl Strategy<Value = Step> {
    let name = 0..NAMES.len();
    prop_oneof![
        (name.clone(), 0u8..4).prop_map(|(n, v)| Step::Create(n, v)),
        (name.clone(), 0u8..4).prop_map(|(n, v)| Step::Born(n, v)),
        (name.clone(), 0u8..4).prop_map(|(n, v)| Step::Change(n, v)),
        name.clone().prop_map(Step::Delete),
        (name.clone(), 0u8..4).prop_map(|(n, v)| Step::ProviderStatus(n, v)),
        (name.clone(), 0u8..4).prop_map(|(n, v)| Step::ProviderEdits(n, v)),
        name.clone().prop_map(Step::ProviderHolds),
        name.clone().prop_map(Step::ProviderLetsGo),
        name.clone().prop_map(Step::ForeignAppears),
        Just(Step::SeeConsumer),
        Just(Step::SeeProvider),
        Just(Step::LoseConsumer),
        Just(Step::LoseProvider),
        (name, 0usize..3, any::<bool>()).prop_map(|(n, k, die)| Step::Work(n, k, die)),
    ]
}

/// The agent: two views that may be old, and a memory that may be lost.
#[derive(Default)]
struct World {
    consumer: Server,
    provider: Server,
    seen_consumer: Option<BTreeMap<&'static str, Object>>,
    seen_provider: Option<BTreeMap<&'static str, Object>>,
    memory: BTreeMap<&'static str, Memory>,
    writes: u32,
    /// Names whose deletion a user has asked for, while an object was there.
    asked_to_delete: Vec<u32>,
}

impl World {
    fn happen(&mut self, step: &Step) {
        match *step {
            Step::Create(n, v) => {
                self.consumer.create(NAMES[n], v, false);
            }
            Step::Born(n, v) => {
                if self.consumer.create(NAMES[n], v, false)
                    && let Some(object) = self.consumer.objects.get_mut(NAMES[n])
                {
                    object.finalizer = true;
                }
            }
            Step::Change(n, v) => self.consumer.touch(NAMES[n], |o| o.spec = v),
            Step::Delete(n) => {
                if let Some(object) = self.consumer.objects.get(NAMES[n]) {
                    self.asked_to_delete.push(object.uid);
                }
                self.consumer.touch(NAMES[n], |o| o.deleting = true);
            }
            Step::ProviderStatus(n, v) => {
                self.provider.touch(NAMES[n], |o| o.status = Some((v, o.generation)));
            }
            Step::ProviderEdits(n, v) => self.provider.touch(NAMES[n], |o| {
                if !o.foreign {
                    o.spec = v;
                }
            }),
            Step::ProviderHolds(n) => self.provider.touch(NAMES[n], |o| o.provider_finalizer |= !o.deleting),
            Step::ProviderLetsGo(n) => self.provider.touch(NAMES[n], |o| o.provider_finalizer = false),
            Step::ForeignAppears(n) => {
                self.provider.create(NAMES[n], 9, true);
            }
            Step::SeeConsumer => self.seen_consumer = Some(self.consumer.objects.clone()),
            Step::SeeProvider => self.seen_provider = Some(self.provider.objects.clone()),
            Step::LoseConsumer => self.seen_consumer = None,
            Step::LoseProvider => self.seen_provider = None,
            Step::Work(n, most, dies) => {
                self.work(NAMES[n], most);
                if dies {
                    self.memory.clear();
                    self.seen_consumer = None;
                    self.seen_provider = None;
                }
            }
        }
    }

    fn decide(&self, name: &'static str) -> Vec<Action> {
        let look = |seen: &Option<BTreeMap<&'static str, Object>>| match seen {
            None => Side::Unknown,
            Some(objects) => objects.get(name).map_or(Side::Absent, |o| Side::Present(o.clone())),
        };
        let consumer = match look(&self.seen_consumer) {
            Side::Present(o) => Side::Present(consumer_summary(&o)),
            Side::Absent => Side::Absent,
            Side::Unknown => Side::Unknown,
        };
        let provider = match look(&self.seen_provider) {
            Side::Present(o) => Side::Present(provider_summary(&o)),
            Side::Absent => Side::Absent,
            Side::Unknown => Side::Unknown,
        };
        let terms = Terms { frozen: false, teardown: Teardown::None, target: Target::Known("p".into()) };
        let memory = self.memory.get(name).cloned().unwrap_or_default();
        decide(&consumer, &provider, &terms, &memory)
    }

    /// Carries out with the preconditions of the real writers; a failed one is no write.
    fn work(&mut self, name: &'static str, most: usize) {
        for action in self.decide(name).into_iter().take(most) {
            self.carry_out(name, action);
        }
    }

    fn carry_out(&mut self, name: &'static str, action: Action) {
        let seen = self.seen_consumer.as_ref().and_then(|s| s.get(name)).cloned();
        let Some(seen) = seen else { return };
        let fresh = self.consumer.objects.get(name).cloned();
        let same = fresh.as_ref().is_some_and(|f| f.uid == seen.uid && f.revision == seen.revision);
        match action {
            Action::Hold if same => {
                self.consumer.touch(name, |o| o.finalizer |= !o.deleting);
                self.writes += 1;
            }
            Action::Create if self.provider.create(name, seen.spec, false) => {
                self.writes += 1;
                self.remember(name, &seen);
            }
            Action::Update { uid, .. } if self.is_ours(name, &uid) => {
                self.provider.touch(name, |o| o.spec = seen.spec);
                self.writes += 1;
                self.remember(name, &seen);
            }
            Action::Delete(deletion) => {
                // The fresh read before a deletion.
                let meant = fresh.is_some_and(|f| f.uid == seen.uid && f.deleting);
                assert!(self.asked_to_delete.contains(&seen.uid), "a delete that nobody asked for");
                if meant && self.provider.objects.get(name).is_some_and(|p| p.uid.to_string() == deletion.uid()) {
                    self.provider.touch(name, |o| o.deleting = true);
                    self.writes += 1;
                }
            }
            Action::PutStatus(rule) => {
                let status = self.seen_provider.as_ref().and_then(|s| s.get(name)).and_then(|p| p.status);
                if fresh.is_some_and(|f| f.uid == seen.uid) {
                    self.consumer.touch(name, |o| o.status = status.map(|(v, g)| (v, rule.translate(g))));
                    self.writes += 1;
                }
            }
            Action::Release if same => {
                assert!(self.seen_provider.is_some(), "let go of an object whose copy may be there");
                // The fresh read before it.
                if self.provider.objects.get(name).is_none_or(|p| p.foreign) {
                    self.consumer.touch(name, |o| o.finalizer = false);
                    self.writes += 1;
                }
            }
            _ => {}
        }
    }

    fn is_ours(&self, name: &str, uid: &str) -> bool {
        self.provider.objects.get(name).is_some_and(|p| p.uid.to_string() == uid && !p.foreign)
    }

    fn remember(&mut self, name: &'static str, seen: &Object) {
        if let Some(made) = self.provider.objects.get(name) {
            self.memory.entry(name).or_default().applied = Some(super::decide::Applied {
                desired: Digest::of_bytes(&[seen.spec]),
                result: Some(Digest::of_bytes(&[made.spec])),
                uid: made.uid.to_string(),
                provider_generation: made.generation,
                consumer_generation: seen.generation,
            });
        }
    }

    /// Everything reachable, nobody changes anything: rounds until nothing is written; how many that took.
    fn settle(&mut self) -> u32 {
        for round in 0..40 {
            self.seen_consumer = Some(self.consumer.objects.clone());
            self.seen_provider = Some(self.provider.objects.clone());
            let before = self.writes;
            for name in NAMES {
                // Each writer looks anew after its own write, as the echo makes it do.
                self.work(name, 1);
                self.seen_consumer = Some(self.consumer.objects.clone());
                self.seen_provider = Some(self.provider.objects.clone());
            }
            // The provider's own controllers end what they hold.
            for name in NAMES {
                self.provider.touch(name, |o| o.provider_finalizer &= !o.deleting);
            }
            if self.writes == before && round > 2 {
                return round;
            }
        }
        panic!("a hot loop: {:?}\n{:?}", self.consumer, self.provider);
    }
}

fn check(steps: &[Step]) {
    let mut world = World::default();
    for step in steps {
        world.happen(step);
    }
    world.settle();
    for (name, object) in &world.consumer.objects {
        assert!(!object.deleting, "{name} hangs in deletion");
        let copy = world.provider.objects.get(name);
        match copy {
            Some(copy) if copy.foreign => assert!(!object.finalizer || copy.spec == 9, "a foreign object was touched"),
            Some(copy) => {
                assert_eq!(copy.spec, object.spec, "{name} differs");
                assert!(object.finalizer);
                assert_eq!(copy.status.map(|s| s.0), object.status.map(|s| s.0), "status of {name} differs");
            }
            None => panic!("{name} has no copy"),
        }
    }
    for (name, copy) in &world.provider.objects {
        if copy.foreign {
            assert_eq!(copy.spec, 9, "{name}: a foreign object was written");
        }
    }
    // An agent that starts anew with everything in sync writes nothing.
    let before = world.writes;
    world.memory.clear();
    world.seen_consumer = Some(world.consumer.objects.clone());
    world.seen_provider = Some(world.provider.objects.clone());
    for name in NAMES {
        for action in world.decide(name) {
            // A status that a newer generation of the provider's own writes has not reached yet may be put once.
            if !matches!(action, Action::PutStatus(Generations { .. }) | Action::Report(_)) {
                panic!("restart with everything in sync: {action:?}");
            }
        }
    }
    assert_eq!(world.writes, before);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]

    #[test]
    fn every_schedule_converges_and_loses_nothing(steps in prop::collection::vec(step(), 0..60)) {
        check(&steps);
    }
}

#[test]
fn a_consumer_that_lost_everything_loses_nothing_at_the_provider() {
    let mut world = World::default();
    for name in 0..NAMES.len() {
        world.happen(&Step::Create(name, 1));
    }
    world.settle();
    // Restored from nothing: an empty cluster, lists complete.
    world.consumer = Server { clock: 1000, ..Server::default() };
    world.settle();
    assert_eq!(world.provider.objects.len(), NAMES.len());
    // Its manifests come back: everything is adopted, nothing created or deleted at the provider.
    let uids: Vec<u32> = world.provider.objects.values().map(|o| o.uid).collect();
    for name in 0..NAMES.len() {
        world.happen(&Step::Create(name, 1));
    }
    world.settle();
    assert_eq!(uids, world.provider.objects.values().map(|o| o.uid).collect::<Vec<_>>());
}

#[test]
fn a_provider_that_lost_everything_gets_it_back() {
    let mut world = World::default();
    for name in 0..NAMES.len() {
        world.happen(&Step::Create(name, 1));
    }
    world.settle();
    world.provider = Server { clock: 1000, ..Server::default() };
    world.settle();
    assert_eq!(world.provider.objects.len(), NAMES.len());
    assert_eq!(world.consumer.objects.len(), NAMES.len());
}
