//! Who may do what, with the programs as they are run: the operator's command, and a secret that is
//! nowhere to be seen.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

use edgesync_tests::{Process, Stack, eventually, output_of, program};

const PASSWORD: &str = "planted-secret-7f3a";

fn write_secret(file: &Path, secret: &str) {
    fs::write(file, secret).unwrap();
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn an_operator_makes_users_tokens_and_roles_and_takes_them_away() {
    let mut stack = Stack::prepare(1);
    stack.keep_access(
        "[[principal]]\nname = \"edge/*\"\n[[principal.grant]]\nrole = \"edge\"\nzones = [\".\"]\n",
    );
    stack.start_control();
    stack.start_edge(0);
    let _ = stack.run(&["zone", "create", "example.com", "--ns", "ns1.example."]).good();
    stack.settle();
    let operator = stack.token_file.take();
    assert!(stack.run(&["zone", "list"]).refused(1).contains("edgesync login"));
    stack.token_file.clone_from(&operator);
    let _ = stack.run_with(&["access", "user", "set", "anna"], PASSWORD).good();
    let _ = stack.run(&["access", "role", "grant", "anna", "editor", "example.com"]).good();
    let listed = stack.run(&["access", "list"]).good();
    assert!(listed.contains("anna") && listed.contains("editor in example.com."), "{listed}");
    assert!(stack.run(&["access", "user", "remove", "root"]).refused(1).contains("policy file"));

    stack.token_file = None;
    assert!(stack.run_with(&["login", "anna"], "wrong horse").refused(1).contains("wrong"));
    let said = stack.run_with(&["login", "anna"], PASSWORD).good();
    assert!(said.contains("logged in as anna"), "{said}");
    assert!(stack.run(&["access", "whoami"]).good().starts_with("anna: editor"));
    let create = ["record", "create", "example.com", "www", "A", "300", "192.0.2.1"];
    let _ = stack.run(&create).good();
    assert!(stack.run(&["freeze"]).refused(1).contains("FleetService/Freeze"));
    let _ = stack.run(&["logout"]).good();
    let _ = stack.run(&["zone", "list"]).refused(1);

    stack.token_file = operator;
    let file = stack.dir().join("ci.token");
    let create = ["access", "token", "create", "ci", "--file", file.to_str().unwrap()];
    let made = stack.run(&[&create[..], &["--output", "json"]].concat()).json();
    let _ = stack.run(&["access", "role", "grant", "ci", "reader", "."]).good();
    let operator = stack.token_file.replace(file);
    assert!(stack.run(&["zone", "list"]).good().contains("example.com."));
    stack.token_file = operator;
    let _ = stack.run(&["access", "token", "revoke", made["id"].as_str().unwrap()]).good();
    stack.token_file = Some(stack.dir().join("ci.token"));
    let _ = stack.run(&["zone", "list"]).refused(1);

    let audit = stack.dir().join("control/audit.log");
    let audit = audit.to_str().unwrap();
    let tail = stack.run(&["audit", "tail", audit, "-n", "100"]).good();
    for part in ["GrantRole", "anna", "PermissionDenied", "Unauthenticated", "RevokeToken"] {
        assert!(tail.contains(part), "{part}: {tail}");
    }
    assert!(stack.run(&["audit", "verify", audit]).good().contains("none of them changed"));
}

#[test]
fn a_control_plane_without_a_policy_is_not_ready_and_says_unavailable() {
    let mut stack = Stack::prepare(0);
    stack.keep_access("");
    let (file, later) = (stack.dir().join("policy.toml"), stack.dir().join("policy.later"));
    fs::rename(&file, &later).unwrap();
    stack.begin_control(&[]);
    eventually("it serves", || {
        let refused = stack.run(&["zone", "list"]).stderr;
        refused.contains("the access policy is not loaded yet")
    });
    assert!(stack.control_page("/healthz").is_some(), "it is alive");
    assert!(stack.control_page("/readyz").is_none(), "and can do nothing for anybody");
    fs::rename(&later, &file).unwrap();
    eventually("it is ready", || stack.control_page("/readyz").is_some());
    let _ = stack.run(&["zone", "list"]).good();
}

/// What the processes of a user were started with.
fn arguments() -> String {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
    lines.map(|line| String::from_utf8_lossy(&line).into_owned() + "\n").collect()
}

#[test]
fn a_planted_secret_is_in_no_log_metric_audit_help_or_list_of_processes() {
    let mut stack = Stack::prepare(0);
    stack.control_environment.push(("EDGESYNC_LOG", "trace"));
    stack.keep_access("");
    stack.start_control();
    let password = stack.dir().join("password");
    write_secret(&password, PASSWORD);
    let password = password.to_str().unwrap();
    let mut said = String::new();
    let keep = |stack: &Stack, said: &mut String, arguments: &[&str]| {
        let ran = stack.run(arguments);
        said.push_str(&ran.stdout);
        said.push_str(&ran.stderr);
    };
    for arguments in [
        &["access", "user", "set", "anna", "--password-file", password][..],
        &["access", "user", "set", "bad name", "--password-file", password],
        &["access", "role", "grant", "anna", "reader", "."],
        &["login", "anna", "--password-file", password],
        &["login", "nobody", "--password-file", password],
        &["access", "list", "--output", "json"],
        &["access", "token", "create", "anna", "--file", "/nowhere/x"],
    ] {
        keep(&stack, &mut said, arguments);
    }
    let login = fs::read_dir(stack.dir().join("edgesync")).unwrap().next().unwrap().unwrap();
    let login = fs::read_to_string(login.path()).unwrap().trim().to_owned();
    let operator = fs::read_to_string(stack.token_file.as_ref().unwrap()).unwrap();
    let secrets = [PASSWORD, &login, operator.trim()];
    // A command that stays, with its token in the environment.
    let mut watch = Command::new(program("edgesync"));
    watch.args(["fleet", "--watch"]);
    watch.env("EDGESYNC_CONTROL", stack.url()).env("EDGESYNC_TOKEN", &login);
    let mut watch = Process::start(&mut watch, &stack.dir().join("watch.log"));
    eventually("the command is there", || arguments().contains("--watch"));
    said += &arguments();
    for name in ["edgesync", "edgesync-control", "edgesyncd"] {
        let mut help = Command::new(program(name));
        help.arg("--help").env("EDGESYNC_TOKEN", &login);
        said += &String::from_utf8_lossy(&output_of(&mut help, "").stdout);
    }
    said += &stack.control_page("/metrics").unwrap();
    let limits = format!("/proc/{}/limits", stack.control().id());
    let limits = fs::read_to_string(limits).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().collect::<Vec<_>>()[4..6], ["0", "0"], "no core dumps");
    watch.kill();
    drop(stack.control.take());
    for file in ["watch.log", "control.log", "control/audit.log"] {
        said += &String::from_utf8_lossy(&fs::read(stack.dir().join(file)).unwrap());
    }
    assert!(said.contains("AccessService/Login") && said.contains("--watch"));
    let log = fs::read(stack.dir().join("control/log.redb")).unwrap();
    let log = String::from_utf8_lossy(&log);
    for secret in secrets {
        assert!(!said.contains(secret), "a secret of {} characters is seen", secret.len());
        assert!(!log.contains(secret), "only its hash is kept");
    }
}
