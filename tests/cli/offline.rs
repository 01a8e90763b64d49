//! `policy`: no service is asked.

use serde_json::{Value, json};

use crate::client::Client;

#[test]
fn a_line_is_judged_by_the_default_allowlist() {
    let ended = Client::new(["policy", "check", "ls -la | grep x"]).run();
    assert_eq!(ended.code, Some(0), "{}{}", ended.stdout, ended.stderr);
    assert!(ended.stdout.starts_with("allowed"), "{}", ended.stdout);
    let ended = Client::new(["policy", "check", "--json", "ls && rm -rf /"]).run();
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    let answer: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!((&answer["verdict"], &answer["span"][0]), (&json!("deny"), &json!(6)), "{answer}");
}

#[test]
fn what_a_permit_adds_and_what_a_refused_command_would_do_is_shown() {
    let ended = Client::new(["policy", "check", "--rulebook", "readonly", "git status"]).run();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stdout.contains("  + arguments for `git`: -c core.fsmonitor=false "), "{}", ended.stdout);
    assert!(ended.stdout.contains("  + variables for `git`: GIT_ALLOW_PROTOCOL=none "), "{}", ended.stdout);
    let ended = Client::new(["policy", "check", "--rulebook", "readonly", "--json", "git status"]).run();
    let answer: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(answer["added"][0]["program"], "git", "{answer}");
    let ended = Client::new(["policy", "check", "--rulebook", "readonly", "sort -o a b; rm c"]).run();
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stdout.contains("  = effects: write a; read b\n"), "{}", ended.stdout);
    assert!(ended.stdout.contains("\nand: `rm` is not allowed"), "{}", ended.stdout);
}

#[test]
fn a_batch_is_answered_line_by_line_in_order() {
    let batch = concat!(
        "{\"id\":1,\"user\":\"a\",\"command\":\"pwd\"}\n",
        "\n",
        "{\"id\":\"two\",\"user\":\"a\",\"command\":\"rm x\"}\n",
        "{\"id\":3,\"user\":\"a\"}\n",
        "not json\n",
        "{\"command\":\"echo 'a\\nb'\"}",
    );
    let ended = Client::new(["policy", "check", "--batch"]).stdin(batch).run();
    // A question that cannot be read is answered with a denial, and remembered.
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(1), ""));
    let answers: Vec<Value> = ended.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let short: Vec<_> =
        answers.iter().map(|answer| (&answer["id"], answer["verdict"].as_str().unwrap())).collect();
    let (one, two, three, none) = (json!(1), json!("two"), json!(3), Value::Null);
    assert_eq!(
        short,
        [(&one, "allow"), (&two, "deny"), (&three, "deny"), (&none, "deny"), (&none, "allow")],
        "{}",
        ended.stdout
    );
    assert_eq!(answers[1]["span"], json!([0, 2]));
    assert_eq!(answers[2]["code"], "request/malformed");
    for answer in &answers {
        let members: Vec<_> = answer.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(members, ["code", "id", "message", "rule", "span", "suggestion", "verdict"]);
    }
}

#[test]
fn a_rulebook_that_ships_is_known_by_name_and_tells_users_apart() {
    let check = |user: &str, line: &str| {
        Client::new(["policy", "check", "--rulebook", "team", "--user", user, line]).run().code
    };
    assert_eq!(check("bob", "head -3 notes"), Some(0));
    assert_eq!(check("alice", "head -3 notes"), Some(1));
    assert_eq!(check("dave", "ls"), Some(1));
}

#[test]
fn a_rulebook_that_fails_its_own_test_is_told_which() {
    let text =
        "version = 1\n\n[[rule]]\nname = \"base\"\nprograms = [\"ls\"]\n\n[[test]]\nallow = [\"rm x\"]\n";
    let ended = Client::new(["policy", "test", "rules.toml"]).file("rules.toml", text).here().run();
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stdout.contains("rules.toml: 0 of 1 tests passed"), "{}", ended.stdout);
    assert!(ended.stdout.contains("no test reached the rules base"), "{}", ended.stdout);
}

#[test]
fn a_rulebook_that_is_wrong_is_refused_with_its_place() {
    let client = Client::new(["policy", "test", "rules.toml"]);
    let client = client.file("rules.toml", "version = 1\nnonsense = true\n").here();
    let ended = client.run();
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stdout.contains("2:1") && ended.stdout.contains("nonsense"), "{}", ended.stdout);
    let ended = Client::new(["policy", "check", "--rulebook", "absent.toml", "ls"]).here().run();
    assert_eq!(ended.code, Some(125));
    assert!(ended.stderr.contains("`absent.toml` cannot be read"), "{}", ended.stderr);
}

#[test]
fn two_rulebooks_are_compared_line_by_line() {
    let lines = "ls\nhead -3 notes\n\nrm x\n";
    let ended = Client::new(["policy", "diff", "default", "readonly"]).stdin(lines).run();
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(1), ""));
    assert_eq!(ended.stdout, "program/not-allowed -> allow  head -3 notes\n");
    let client = Client::new(["policy", "diff", "default", "default", "--lines", "lines", "--json"])
        .file("lines", lines);
    let ended = client.here().run();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(serde_json::from_str::<Value>(&ended.stdout).unwrap(), json!({"changes": []}));
}

#[test]
fn a_rulebook_is_explained_linted_and_described() {
    let ended = Client::new(["policy", "explain", "--rulebook", "team", "head"]).run();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stdout.contains("`bob` may run it too"), "{}", ended.stdout);
    let text = "version = 1\n\n[[rule]]\nname = \"a\"\nprograms = [\"ls\"]\n\n[[rule]]\nname = \"b\"\nprograms = [\"ls\"]\n";
    let ended = Client::new(["policy", "lint", "rules.toml"]).file("rules.toml", text).here().run();
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stdout.contains("(shadowed)") && ended.stdout.contains("rules.toml:"), "{}", ended.stdout);
    let text = "version = 1\n\n[[rule]]\nname = \"no force\"\neffect = \"deny\"\nprograms = [\"git\"]\noptions = { deny = [\"--force\"] }\nsuggestion = \"leave it out\"\n";
    let client = Client::new(["policy", "explain", "--rulebook", "rules.toml", "git"]);
    let ended = client.file("rules.toml", text).here().run();
    assert!(ended.stdout.contains("\n  denies the options `--force`"), "{} {}", ended.stdout, ended.stderr);
    let ended = Client::new(["policy", "schema"]).run();
    let schema: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert!(schema["$schema"].as_str().unwrap().contains("2020-12"));
}
