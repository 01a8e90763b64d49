//! What a verdict says beside yes and no: what a permit adds to commands, and what a refused command would do.

use portcullis_core::{Limits, Policy as _, Principal, Submission, Verdict};
use portcullis_policy::batch::answer_json;
use portcullis_policy::{Rulebook, RulebookPolicy, explain};

fn judge(name: &str, line: &str) -> Verdict {
    let rulebook = Rulebook::reference(name).expect("a reference rulebook");
    RulebookPolicy::new(rulebook, Limits::default()).judge(&Principal::local(), &Submission::of(line))
}

#[test]
fn what_neutralises_a_repository_is_in_the_verdict() {
    for line in ["git log -p", "git status", "timeout 5 git log"] {
        let Verdict::Permit(permit, grant) = judge("dev", line) else { panic!("{line}") };
        let [added] = grant.added.as_slice() else { panic!("{line}: {:?}", grant.added) };
        let has = |wanted: &str| added.arguments.iter().any(|argument| argument == wanted);
        assert!(has("core.fsmonitor=false") && has("core.hooksPath=/dev/null"), "{line}: {added:?}");
        assert!(added.environment.contains(&("GIT_PAGER".into(), "cat".into())), "{line}: {added:?}");
        // What is shown is what is executed.
        let commands: Vec<_> = permit.plan().script.commands().collect();
        let words: Vec<_> = commands[0].arguments.iter().map(portcullis_core::Word::to_unmatched).collect();
        assert!(added.arguments.iter().all(|argument| words.contains(argument)), "{line}: {words:?}");
        assert!(added.environment.iter().all(|pair| commands[0].assignments.contains(pair)), "{line}");
    }
}

#[test]
fn what_is_added_is_said_once_for_each_different_command() {
    let Verdict::Permit(_, grant) = judge("readonly", "git status; git status; git log; ls") else {
        panic!()
    };
    assert_eq!(grant.added.len(), 2, "{:?}", grant.added);
    let Verdict::Permit(_, grant) = judge("readonly", "ls | head") else { panic!() };
    assert!(grant.added.is_empty());
}

#[test]
fn a_denial_tells_the_effects_of_refused_commands_and_every_further_denial() {
    let line = "cat a; sort -o b c; rm x; cat /etc/passwd";
    let Verdict::Deny(denial) = judge("readonly", line) else { panic!() };
    assert_eq!(denial.code.as_str(), "operation/write");
    let found: Vec<_> = denial
        .effects
        .iter()
        .map(|effect| {
            let told = format!("{} {} by {}", effect.kind, effect.subject, effect.via);
            (told, &line[effect.span.start..effect.span.end])
        })
        .collect();
    assert_eq!(
        found,
        [
            ("write b by option `-o`".into(), "b"),
            ("read c by operand".into(), "c"),
            // What `rm` would do nobody asks: no rule allows it. Nor of `cat a`: it is allowed.
            ("read /etc/passwd by operand".into(), "/etc/passwd"),
        ]
    );
    let further: Vec<_> = denial
        .further
        .iter()
        .map(|one| (one.code.as_str(), &line[one.span.start..one.span.end], one.effects.len()))
        .collect();
    assert_eq!(further, [("program/not-allowed", "rm", 0), ("path/protected", "/etc/passwd", 0)]);
    assert!(explain::draw(line, &denial).contains("  = effects: write b; read c; read /etc/passwd\n"));
}

#[test]
fn what_is_not_on_the_line_is_told_in_words() {
    let Verdict::Deny(denial) = judge("dev", "ls | xargs rm -rf") else { panic!() };
    let delete = denial.effects.iter().find(|effect| effect.kind == "delete").unwrap();
    assert_eq!(delete.subject, "what is deleted is not on the line");
    assert!(!format!("{denial:?}").contains("10fff"), "{denial:?}");
}

#[test]
fn effects_are_no_more_than_can_be_read() {
    let line = format!("sort -o a {}", "b ".repeat(2_000));
    let Verdict::Deny(denial) = judge("readonly", &line) else { panic!() };
    assert_eq!(denial.effects.len(), 64);
}

#[test]
fn a_batch_tells_what_is_added_what_was_found_and_what_else_is_wrong() {
    let rulebook = Rulebook::reference("readonly").unwrap();
    let policy = RulebookPolicy::new(rulebook, Limits::default());
    let answer = |line: &str| -> serde_json::Value {
        let question = serde_json::json!({"id": 1, "command": line}).to_string();
        serde_json::from_str(&answer_json(&policy, question.as_bytes())).unwrap()
    };
    let git = answer("git diff");
    assert_eq!(git["added"][0]["program"], "git");
    assert!(git["added"][0]["arguments"].as_array().unwrap().contains(&"--no-ext-diff".into()));
    let denied = answer("sort -o a b; rm c");
    assert_eq!(
        denied["effects"][0],
        serde_json::json!({"kind": "write", "subject": "a", "via": "option `-o`", "span": [8, 9]})
    );
    assert_eq!(denied["further"][0]["code"], "program/not-allowed");
    assert_eq!(denied["further"][0]["span"], serde_json::json!([13, 15]));
    let plain = answer("ls");
    assert!(["added", "effects", "further"].iter().all(|member| plain.get(member).is_none()), "{plain}");
}

#[test]
fn what_may_be_run_is_listed_with_its_limits() {
    let text = "version = 1\n[[rule]]\nname = \"a\"\nprograms = [\"ls\"]\nlimits = { time_seconds = 5, memory_bytes = 4096 }\n\
                [[rule]]\nname = \"b\"\nprograms = [\"cat\"]\n";
    let caps = Limits::default();
    let policy = RulebookPolicy::new(Rulebook::parse(text).unwrap(), caps.clone());
    let allowed = policy.allowed(&Principal::local());
    let [cat, ls] = allowed.as_slice() else { panic!("{allowed:?}") };
    assert_eq!(cat.limits, caps);
    assert_eq!((ls.limits.wall_time.as_secs(), ls.limits.memory_bytes), (5, 4096));
    assert_eq!(ls.limits.output_bytes, caps.output_bytes);
}
