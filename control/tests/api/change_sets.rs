//! Pipelined change sets.

use edgesync_proto::v1::{
    self, apply_change_sets_response::Result as Outcome, operation::Operation as Wish,
};
use tonic::Code;

use crate::harness::{Control, ZONE, all, data};

fn set(wishes: Vec<Wish>) -> v1::ApplyChangeSetsRequest {
    let operation = |wish| v1::Operation { operation: Some(wish) };
    v1::ApplyChangeSetsRequest {
        zone: ZONE.to_owned(),
        operations: wishes.into_iter().map(operation).collect(),
        ..Default::default()
    }
}

fn create(owner: &str) -> Wish {
    Wish::Create(data(owner, "A", "192.0.2.1"))
}

async fn apply(control: &Control, sets: Vec<v1::ApplyChangeSetsRequest>) -> Vec<Outcome> {
    let answers = control.records().apply_change_sets(tokio_stream::iter(sets)).await.unwrap();
    let answers = all(answers.into_inner()).await.unwrap();
    answers.into_iter().map(|answer| answer.result.unwrap()).collect()
}

fn refusal(outcome: &Outcome) -> (Code, Option<u32>) {
    match outcome {
        Outcome::Refusal(refusal) => (Code::from_i32(refusal.code), refusal.operation),
        Outcome::Receipt(_) => panic!("{outcome:?}"),
    }
}

fn receipt(outcome: &Outcome) -> v1::Receipt {
    match outcome {
        Outcome::Receipt(receipt) => receipt.clone(),
        Outcome::Refusal(_) => panic!("{outcome:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sets_are_committed_in_the_order_in_which_they_come() {
    let control = Control::with_zone().await;
    let before = control.head().await;
    let sets = (0..2_000).map(|n| set(vec![create(&format!("n{n}"))])).collect();
    let outcomes = apply(&control, sets).await;
    let firsts: Vec<_> = outcomes.iter().map(|outcome| receipt(outcome).first).collect();
    assert_eq!(firsts, (before + 1..=before + 2_000).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_refusal_at_commit_the_rest_is_refused_and_what_came_before_stays() {
    let control = Control::with_zone().await;
    let mut sets: Vec<_> = (0..100).map(|n| set(vec![create(&format!("n{n}"))])).collect();
    // Taken in well, but wrong on the state that it meets.
    sets[40] = set(vec![create("fine"), create("n7")]);
    let outcomes = apply(&control, sets).await;
    assert!(outcomes[..40].iter().all(|outcome| matches!(outcome, Outcome::Receipt(_))));
    assert_eq!(refusal(&outcomes[40]), (Code::AlreadyExists, Some(1)));
    for outcome in &outcomes[41..] {
        assert_eq!(refusal(outcome), (Code::Aborted, None));
    }
    assert_eq!(outcomes.len(), 100);
    assert_eq!(control.lines(ZONE).await.len(), 42);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_refusal_before_the_queue_what_is_in_it_is_still_committed() {
    let control = Control::with_zone().await;
    let mut sets: Vec<_> = (0..100).map(|n| set(vec![create(&format!("n{n}"))])).collect();
    sets[40] = set(vec![create("fine"), Wish::Create(data("x", "A", "no address"))]);
    let outcomes = apply(&control, sets).await;
    assert!(outcomes[..40].iter().all(|outcome| matches!(outcome, Outcome::Receipt(_))));
    assert_eq!(refusal(&outcomes[40]), (Code::InvalidArgument, Some(1)));
    for outcome in &outcomes[41..] {
        assert_eq!(refusal(outcome), (Code::Aborted, None));
    }
    assert_eq!(control.lines(ZONE).await.len(), 42);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_operation_does_what_it_says() {
    let control = Control::with_zone().await;
    let one = control.create("one", "A", "192.0.2.1").await.unwrap().record.unwrap();
    let two = control.create("two", "A", "192.0.2.1").await.unwrap().record.unwrap();
    control.create("three", "A", "192.0.2.1").await.unwrap();
    control.create("four", "A", "192.0.2.1").await.unwrap();
    let replace = v1::Replace {
        old: Some(data("three", "A", "192.0.2.1")),
        new: Some(v1::RecordData { ttl: 60, ..data("three", "A", "192.0.2.3") }),
    };
    let edit = v1::EditById {
        id: one.id,
        rdata: Some("192.0.2.9".to_owned()),
        if_version: one.version,
        ..Default::default()
    };
    let outcomes = apply(
        &control,
        vec![set(vec![
            create("five"),
            Wish::EditById(edit),
            Wish::DeleteById(v1::DeleteById { id: two.id, if_version: 0 }),
            Wish::Replace(replace),
            Wish::Delete(data("four", "A", "192.0.2.1")),
        ])],
    )
    .await;
    let receipt = receipt(&outcomes[0]);
    assert_eq!(receipt.position.unwrap().offset, receipt.first + 4, "the serial stays");
    let mut lines = control.lines(ZONE).await;
    lines.retain(|line| line.contains(" A "));
    assert_eq!(
        lines,
        [
            "five.example.com. 300 A 192.0.2.1",
            "one.example.com. 300 A 192.0.2.9",
            "three.example.com. 60 A 192.0.2.3",
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn each_wrong_operation_is_refused_with_its_code_and_index() {
    let control = Control::with_zone().await;
    control.create_zone("example.org").await.unwrap();
    let record = control.create("www", "A", "192.0.2.1").await.unwrap().record.unwrap();
    let by_id = |id, if_version| Wish::DeleteById(v1::DeleteById { id, if_version });
    let rename = v1::Replace {
        old: Some(data("www", "A", "192.0.2.1")),
        new: Some(data("web", "A", "192.0.2.1")),
    };
    for (wish, code) in [
        (by_id(999, 0), Code::NotFound),
        (by_id(record.id, record.version + 1), Code::Aborted),
        (Wish::Delete(data("www", "A", "192.0.2.2")), Code::NotFound),
        (Wish::Replace(rename), Code::InvalidArgument),
        (Wish::Replace(v1::Replace::default()), Code::InvalidArgument),
        (Wish::Create(data("www", "CNAME", "ns1")), Code::FailedPrecondition),
    ] {
        let outcomes = apply(&control, vec![set(vec![create("fine"), wish.clone()])]).await;
        let (told, index) = refusal(&outcomes[0]);
        assert_eq!(told, code, "{wish:?}");
        assert!(index == Some(1) || code == Code::FailedPrecondition, "{wish:?}");
    }
    let elsewhere =
        |zone: &str, wish| v1::ApplyChangeSetsRequest { zone: zone.to_owned(), ..set(vec![wish]) };
    for (set, code) in [
        (elsewhere("example.org", by_id(record.id, 0)), Code::NotFound),
        (elsewhere("example.net", create("x")), Code::NotFound),
        (elsewhere("", create("x")), Code::InvalidArgument),
        (set(Vec::new()), Code::InvalidArgument),
        (
            v1::ApplyChangeSetsRequest {
                operations: vec![v1::Operation::default()],
                ..set(vec![])
            },
            Code::InvalidArgument,
        ),
    ] {
        assert_eq!(refusal(&apply(&control, vec![set]).await[0]).0, code);
    }
    assert_eq!(control.lines(ZONE).await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_stream_gets_the_answers_of_the_first() {
    let control = Control::with_zone().await;
    let record = control.create("www", "A", "192.0.2.1").await.unwrap().record.unwrap();
    let keyed = |key: &str, wish, raise_serial| v1::ApplyChangeSetsRequest {
        idempotency_key: key.to_owned(),
        raise_serial,
        ..set(vec![wish])
    };
    let by_id = Wish::DeleteById(v1::DeleteById { id: record.id, if_version: 0 });
    let sets = vec![keyed("1", create("a"), true), keyed("2", by_id, true)];
    let first = apply(&control, sets.clone()).await;
    let head = control.head().await;
    let again = apply(&control, [&sets[..], &[set(vec![create("b")])]].concat()).await;
    for (first, again) in first.iter().zip(&again) {
        let (first, again) = (receipt(first), receipt(again));
        assert!(again.replayed && !first.replayed);
        assert_eq!(first, v1::Receipt { replayed: false, ..again });
    }
    assert_eq!(receipt(&again[2]).first, head + 1, "the stream goes on");
    let other = apply(&control, vec![keyed("1", create("c"), true)]).await;
    assert_eq!(refusal(&other[0]).0, Code::FailedPrecondition);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_larger_than_other_messages_may_be_is_taken() {
    let control = Control::with_zone().await;
    let text = "x".repeat(250);
    let wishes = (0..25_000).map(|n| Wish::Create(data(&format!("n{n}"), "TXT", &text)));
    let outcomes = apply(&control, vec![set(wishes.collect())]).await;
    assert_eq!(receipt(&outcomes[0]).position.unwrap().offset, control.head().await);
}
