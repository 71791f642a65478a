use super::*;

fn consumer() -> ConsumerSummary {
    ConsumerSummary {
        uid: "c1".into(),
        revision: "1".into(),
        generation: 1,
        deleting: false,
        finalizer: true,
        other_finalizers: false,
        provider_namespace: Some("p-n".into()),
        desired: Digest::of_bytes(b"want"),
        status: StatusKey { digest: None, generations: Box::new([]) },
        references: Box::new([]),
    }
}

fn copy() -> ProviderSummary {
    ProviderSummary {
        uid: "p1".into(),
        revision: "1".into(),
        generation: 1,
        deleting: false,
        belongs: Belongs::Ours { consumer_uid: "c1".into() },
        owned: Some(Digest::of_bytes(b"want")),
        needs_migration: false,
        status: StatusKey { digest: None, generations: Box::new([]) },
    }
}

fn terms() -> Terms {
    Terms { frozen: false, teardown: Teardown::None, target: Target::Known("p-n".into()) }
}

fn run(c: ConsumerSummary, p: Side<ProviderSummary>, t: Terms) -> Vec<Action> {
    decide(&Side::Present(c), &p, &t, &Memory::default())
}

#[test]
fn at_rest_nothing_is_done() {
    assert_eq!(run(consumer(), Side::Present(copy()), terms()), []);
}

#[test]
fn the_finalizer_comes_before_anything_goes_up() {
    let c = ConsumerSummary { finalizer: false, ..consumer() };
    assert_eq!(run(c, Side::Absent, terms()), [Action::Hold]);
    assert_eq!(run(consumer(), Side::Absent, terms()), [Action::Create]);
    assert_eq!(run(consumer(), Side::Unknown, terms()), []);
    let pending = Terms { target: Target::Pending, ..terms() };
    assert_eq!(
        run(ConsumerSummary { finalizer: false, ..consumer() }, Side::Unknown, pending),
        [Action::EnsureMapping]
    );
}

#[test]
fn absence_deletes_nothing_whatever_else_is_true() {
    for provider in [Side::Absent, Side::Unknown, Side::Present(copy())] {
        for teardown in [Teardown::None, Teardown::Kind, Teardown::Orphan, Teardown::Delete] {
            for side in [Side::Absent, Side::Unknown] {
                let t = Terms { teardown, ..terms() };
                assert_eq!(decide(&side, &provider, &t, &Memory::default()), []);
            }
        }
    }
}

#[test]
fn deletion_waits_until_the_copy_is_really_gone() {
    let c = || ConsumerSummary { deleting: true, ..consumer() };
    let actions = run(c(), Side::Present(copy()), terms());
    assert!(matches!(&actions[..], [Action::Delete(d)] if d.uid() == "p1"));
    assert_eq!(run(c(), Side::Present(ProviderSummary { deleting: true, ..copy() }), terms()), []);
    assert_eq!(run(c(), Side::Unknown, terms()), [], "the provider is down: wait");
    assert_eq!(run(c(), Side::Absent, terms()), [Action::Release]);
}

#[test]
fn who_was_born_held_and_deleted_before_it_had_a_place_gets_one_to_look_at() {
    let c = || ConsumerSummary { deleting: true, ..consumer() };
    let pending = || Terms { target: Target::Pending, ..terms() };
    assert_eq!(run(c(), Side::Unknown, pending()), [Action::EnsureMapping]);
    assert_eq!(run(ConsumerSummary { finalizer: false, ..c() }, Side::Unknown, pending()), []);
    assert_eq!(run(c(), Side::Unknown, Terms { frozen: true, ..pending() }), []);
    let going = Terms { teardown: Teardown::Orphan, ..pending() };
    assert_eq!(run(c(), Side::Unknown, going), [Action::Release]);
}

#[test]
fn who_was_born_held_and_with_its_place_needs_no_write_of_ours() {
    assert_eq!(run(consumer(), Side::Absent, terms()), [Action::Create]);
    for place in [None, Some("p-other".into())] {
        let c = ConsumerSummary { provider_namespace: place, ..consumer() };
        assert_eq!(run(c, Side::Absent, terms()), [Action::Hold]);
    }
}

#[test]
fn a_foreign_object_is_neither_written_nor_deleted() {
    for belongs in [Belongs::Foreign, Belongs::Other("x".into())] {
        let foreign = ProviderSummary { belongs, owned: None, ..copy() };
        let actions = run(consumer(), Side::Present(foreign.clone()), terms());
        assert!(matches!(&actions[..], [Action::Report(Obstacle::ForeignObject(_))]));
        let going = ConsumerSummary { deleting: true, ..consumer() };
        assert_eq!(run(going, Side::Present(foreign), terms()), [Action::Release]);
    }
}

#[test]
fn a_removed_crd_and_an_orphaning_unbind_only_let_go() {
    for teardown in [Teardown::Kind, Teardown::Orphan] {
        let c = ConsumerSummary { deleting: true, ..consumer() };
        let t = Terms { teardown, ..terms() };
        assert_eq!(run(c, Side::Present(copy()), t), [Action::Release]);
    }
    let t = Terms { teardown: Teardown::Orphan, frozen: true, target: Target::Pending };
    assert_eq!(run(consumer(), Side::Unknown, t), [Action::Release], "without the provider too");
}

#[test]
fn a_frozen_contract_moves_nothing() {
    let t = Terms { frozen: true, ..terms() };
    assert_eq!(run(ConsumerSummary { deleting: true, ..consumer() }, Side::Present(copy()), t.clone()), []);
    assert_eq!(run(consumer(), Side::Absent, t), []);
}

#[test]
fn what_the_provider_makes_of_our_write_is_not_written_again() {
    let made = Some(Digest::of_bytes(b"pruned"));
    let memory = Memory {
        applied: Some(Applied {
            desired: Digest::of_bytes(b"want"),
            result: made,
            uid: "p1".into(),
            provider_generation: 1,
            consumer_generation: 1,
        }),
        ..Memory::default()
    };
    let p = ProviderSummary { owned: made, ..copy() };
    assert_eq!(decide(&Side::Present(consumer()), &Side::Present(p.clone()), &terms(), &memory), []);
    let changed = ProviderSummary { owned: Some(Digest::of_bytes(b"edited")), ..p };
    let actions = decide(&Side::Present(consumer()), &Side::Present(changed.clone()), &terms(), &memory);
    assert_eq!(actions, [Action::Update { uid: "p1".into(), migrate: false, revert: true }]);
    let contested = Memory { reverts: CONTESTED_AFTER, ..memory };
    let actions = decide(&Side::Present(consumer()), &Side::Present(changed), &terms(), &contested);
    assert_eq!(actions[0], Action::Report(Obstacle::Contested));
}

#[test]
fn status_comes_down_when_it_differs() {
    let p = ProviderSummary {
        status: StatusKey { digest: Some(Digest::of_bytes(b"s")), generations: Box::new([1]) },
        ..copy()
    };
    let actions = run(consumer(), Side::Present(p.clone()), terms());
    assert!(matches!(&actions[..], [Action::PutStatus(_)]));
    let c = ConsumerSummary { status: p.status.clone(), ..consumer() };
    assert_eq!(run(c, Side::Present(p), terms()), []);
}

#[test]
fn an_object_of_the_go_agent_is_migrated_once() {
    let p = ProviderSummary { owned: None, needs_migration: true, ..copy() };
    assert_eq!(
        run(consumer(), Side::Present(p), terms()),
        [Action::Update { uid: "p1".into(), migrate: true, revert: false }]
    );
}
