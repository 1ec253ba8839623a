//! The way of a record, told once as a test: API → log → stream → store → ack → receipt.

use edgesync_tests::Stack;

#[test]
fn a_record_is_created_edited_and_deleted_on_every_edge() {
    let stack = Stack::start(2);

    // 1, 2: the API takes it, the log makes it durable and gives it an offset.
    let _ = stack.run(&["zone", "create", "example.com", "--ns", "ns1.example.com."]).good();
    let create =
        ["record", "create", "example.com", "www", "A", "300", "192.0.2.1", "--output", "json"];
    let created = stack.run(&create).json();
    let id = created["id"]
        .as_u64()
        .or_else(|| created["record"]["id"].as_u64())
        .expect("an id")
        .to_string();

    // 3, 4, 5, 6, 7: it goes to the edges, becomes durable there, and the receipt says so.
    stack.settle();
    for edge in 0..2 {
        let found = stack.run_edge(edge, &["get", "www.example.com.", "A"]).good();
        assert!(found.contains("192.0.2.1"), "{found}");
    }

    let _ = stack.run(&["record", "edit", &id, "--rdata", "192.0.2.2", "--ttl", "60"]).good();
    stack.settle();
    let control = stack.run(&["zone", "export", "example.com"]).good();
    assert!(control.contains("www.example.com.\t60\tIN\tA\t192.0.2.2\n"), "{control}");
    for edge in 0..2 {
        assert_eq!(stack.run_edge(edge, &["export", "example.com"]).good(), control);
    }

    let _ = stack.run(&["record", "delete", &id]).good();
    stack.settle();
    for edge in 0..2 {
        let text = stack.run_edge(edge, &["export", "example.com"]).good();
        assert!(!text.contains("www"), "{text}");
        let _ = stack.run_edge(edge, &["verify"]).good();
    }

    // Who did it, and what: the log tells.
    let log = stack.run(&["log", "--from", "1"]).good();
    for method in ["CreateZone", "CreateRecord", "EditRecord", "DeleteRecord"] {
        assert!(log.contains(method), "{log}");
    }
    let metrics = stack.control_page("/metrics").expect("metrics");
    for name in ["edgesync_control_end_to_end_seconds", "edgesync_control_commit_seconds"] {
        assert!(metrics.contains(&format!("# HELP {name}")), "{name} has its help");
        assert!(metrics.contains(&format!("{name}_count")), "{name} is measured");
    }
}

#[test]
fn a_deleted_zone_leaves_every_edge() {
    let stack = Stack::start(1);
    let _ = stack.run(&["zone", "create", "example.com", "--ns", "ns1.example.com."]).good();
    stack.settle();
    assert!(stack.run_edge(0, &["export", "example.com"]).good().contains("SOA"));
    assert!(stack.run_edge(0, &["zones"]).good().contains("example.com."));
    let _ = stack.run(&["zone", "delete", "example.com"]).good();
    stack.settle();
    assert!(!stack.run_edge(0, &["zones"]).good().contains("example.com."));
    assert_ne!(stack.run_edge(0, &["export", "example.com"]).code, 0);
    assert_eq!(stack.edge_status(0).expect("status")["records"], 0);
}
