//! Writes what was found out about the host, for people and for programs.

use std::fmt::Write;

use portcullis_sandbox::{Account, Findings, Mechanism, Program, Standing};

/// Exit code when the service runs and something that it can do without is missing.
pub const LACKING: u8 = 3;

/// Returns the exit code: 0 when everything is there, [`LACKING`], or 1 when nothing can run at the asked level.
#[must_use]
pub fn exit_code(findings: &Findings) -> u8 {
    match findings.standing {
        Standing::Whole => 0,
        Standing::Lacking => LACKING,
        Standing::Refused => 1,
    }
}

/// Writes the findings as one JSON object, with the user whom root becomes.
#[must_use]
pub fn json(findings: &Findings, user: Option<&Account>) -> String {
    // None of the types has a key that is not a string, nor a `Serialize` of its own that fails.
    let mut value = serde_json::to_value(findings).unwrap_or_default();
    if let (Some(object), Some(user)) = (value.as_object_mut(), user) {
        let user = serde_json::json!({ "name": user.name, "uid": user.uid, "gid": user.gid });
        object.insert("serviceUser".into(), user);
    }
    let mut text = serde_json::to_string_pretty(&value).unwrap_or_default();
    text.push('\n');
    text
}

/// Writes the findings as tables, what is missing with its meaning and how to mend it, and what follows.
#[must_use]
pub fn table(findings: &Findings, user: Option<&Account>) -> String {
    let mut text = String::new();
    mechanisms(&mut text, &findings.mechanisms);
    programs(&mut text, &findings.programs);
    for mechanism in findings.mechanisms.iter().filter(|mechanism| mechanism.present == Some(false)) {
        missing(&mut text, mechanism);
    }
    conclusion(&mut text, findings, user);
    text
}

// Writing to a string does not fail, here and below.

fn mechanisms(text: &mut String, mechanisms: &[Mechanism]) {
    let width = mechanisms.iter().map(|mechanism| mechanism.name.len()).max().unwrap_or(0);
    let _ = writeln!(text, "{:width$}  THERE  NEEDED FOR        DETAIL", "MECHANISM");
    for mechanism in mechanisms {
        let there = match mechanism.present {
            Some(true) => "yes",
            Some(false) => "NO",
            None => "-",
        };
        let needed_for = mechanism.needed_for.as_str();
        let line = format!("{:width$}  {there:5}  {needed_for:16}  {}", mechanism.name, mechanism.detail);
        let _ = writeln!(text, "{}", line.trim_end());
    }
}

fn programs(text: &mut String, programs: &[Program]) {
    let width = programs.iter().map(|program| program.name.len()).max().unwrap_or(0).max("PROGRAM".len());
    let _ = writeln!(text, "\n{:width$}  THERE  DETAIL", "PROGRAM");
    for program in programs {
        let there = if program.problem.is_none() { "yes" } else { "NO" };
        let mut detail = match (&program.file, &program.problem) {
            (_, Some(problem)) => problem.clone(),
            (Some(file), None) => file.display().to_string(),
            (None, None) => String::new(),
        };
        if let Some(multi_call) = program.multi_call {
            let _ = write!(detail, "; part of `{multi_call}`: for the kernel all its parts are one program");
        }
        if program.set_id {
            detail.push_str("; set-id, which has no effect in a cell");
        }
        let _ = writeln!(text, "{:width$}  {there:5}  {detail}", program.name);
    }
}

fn missing(text: &mut String, mechanism: &Mechanism) {
    let required = if mechanism.required { ", REQUIRED" } else { "" };
    let _ = writeln!(text, "\n{} is missing ({}{required})", mechanism.name, mechanism.needed_for.as_str());
    let _ = writeln!(text, "  it means: {}", mechanism.absence);
    for mend in mechanism.mends {
        let _ = writeln!(text, "  {}: {}", mend.on, mend.how);
    }
}

fn conclusion(text: &mut String, findings: &Findings, user: Option<&Account>) {
    let trial = &findings.trial;
    let _ = writeln!(text, "\nLinux {}, uid {}", findings.kernel, findings.uid);
    match (user, user.and_then(portcullis_sandbox::obstacle)) {
        (None, _) => {}
        (Some(user), None) => {
            let _ = writeln!(text, "The service becomes {user}; its launcher stays root.");
        }
        (Some(user), Some(problem)) => {
            let _ = writeln!(
                text,
                "The service cannot become {user}, and stays root with no capability: {problem}."
            );
        }
    }
    match (trial.level, &trial.ran) {
        (None, _) => text.push_str("No cell could be made.\n"),
        (Some(level), Some(program)) => {
            let _ =
                writeln!(text, "A cell was made at level `{}`, and `{program}` ran in it.", level.as_str());
        }
        (Some(level), None) => {
            let _ = writeln!(text, "A cell was made at level `{}`.", level.as_str());
        }
    }
    for weakness in &trial.weaker {
        let _ = writeln!(text, "Weaker than full: {weakness}.");
    }
    let _ = match findings.standing {
        Standing::Whole => writeln!(text, "Everything is there."),
        Standing::Lacking => writeln!(text, "The service runs; what is missing above, it can do without."),
        Standing::Refused => writeln!(text, "Nothing will run: {}.", refusal(findings)),
    };
}

/// Says in one line why nothing runs, and which required mechanisms are missing.
#[must_use]
pub fn refusal(findings: &Findings) -> String {
    let trial = &findings.trial;
    let mut reason = match (&trial.problem, trial.level, findings.floor) {
        (Some(problem), ..) => problem.clone(),
        (None, Some(level), Some(floor)) if level < floor => {
            let (floor, level) = (floor.as_str(), level.as_str());
            format!("confinement level `{floor}` is required, this host gives `{level}`")
        }
        _ => "no cell could be made".into(),
    };
    // Without a cell either way would do: what is missing for each is what there is to say.
    let counts = |mechanism: &&Mechanism| {
        let needed = mechanism.required || trial.level.is_none() && !is_best_effort(mechanism);
        mechanism.present == Some(false) && needed
    };
    let names: Vec<String> = findings
        .mechanisms
        .iter()
        .filter(counts)
        .map(|mechanism| {
            format!("{} (for {}): {}", mechanism.name, mechanism.needed_for.as_str(), mechanism.detail)
        })
        .collect();
    if !names.is_empty() {
        let _ = write!(reason, "; missing: {}", names.join("; "));
    }
    reason
}

fn is_best_effort(mechanism: &Mechanism) -> bool {
    use portcullis_sandbox::Need;
    match mechanism.needed_for {
        Need::Everything | Need::Namespaces | Need::Landlock => false,
        Need::Full | Need::BestEffort => true,
    }
}

#[cfg(test)]
mod tests {
    use portcullis_core::Level;
    use portcullis_sandbox::{Mend, Need, Trial};

    use super::*;

    fn findings(standing: Standing, present: bool, level: Option<Level>) -> Findings {
        let mechanism = Mechanism {
            name: "user namespace",
            present: Some(present),
            detail: if present { String::new() } else { "No space left on device (os error 28)".into() },
            needed_for: Need::Namespaces,
            required: true,
            absence: "no namespace of any kind",
            mends: &[Mend { on: "Debian, Ubuntu", how: "`sysctl user.max_user_namespaces=15000`" }],
        };
        let program = Program {
            name: "ls".into(),
            file: Some("/bin/busybox".into()),
            problem: None,
            multi_call: Some("busybox"),
            set_id: true,
        };
        Findings {
            standing,
            kernel: "6.12.0".into(),
            uid: 0,
            floor: Some(Level::Namespaces),
            trial: Trial { level, ..Trial::default() },
            mechanisms: vec![mechanism],
            programs: vec![program],
        }
    }

    #[test]
    fn what_is_missing_is_told_with_its_meaning_and_a_mend_and_nothing_runs() {
        let findings = findings(Standing::Refused, false, Some(Level::Landlock));
        let text = table(&findings, None);
        for wanted in [
            "user namespace  NO     namespaces, full  No space left on device",
            "user namespace is missing (namespaces, full, REQUIRED)",
            "  it means: no namespace of any kind",
            "  Debian, Ubuntu: `sysctl user.max_user_namespaces=15000`",
            "part of `busybox`: for the kernel all its parts are one program; set-id, which has no effect",
            "Nothing will run: confinement level `namespaces` is required, this host gives `landlock`; missing: user \
             namespace (for namespaces, full): No space left on device (os error 28).",
        ] {
            assert!(text.contains(wanted), "{wanted:?} in {text}");
        }
        assert_eq!(exit_code(&findings), 1);
    }

    #[test]
    fn a_host_that_has_everything_is_told_so_in_one_line() {
        let findings = findings(Standing::Whole, true, Some(Level::Full));
        let text = table(&findings, None);
        assert!(text.ends_with("A cell was made at level `full`.\nEverything is there.\n"), "{text}");
        assert!(!text.contains("missing"), "{text}");
        assert_eq!(exit_code(&findings), 0);
    }

    #[test]
    fn programs_read_the_same_as_people() {
        let user = Account { name: None, uid: 77, gid: 78 };
        let json: serde_json::Value =
            serde_json::from_str(&json(&findings(Standing::Lacking, false, None), Some(&user))).unwrap();
        assert_eq!(json["standing"], "lacking");
        assert_eq!((&json["serviceUser"]["uid"], &json["serviceUser"]["gid"]), (&77.into(), &78.into()));
        assert_eq!(json["mechanisms"][0]["neededFor"], "namespaces");
        assert_eq!(
            (&json["floor"], &json["trial"]["level"]),
            (&"namespaces".into(), &serde_json::Value::Null)
        );
        assert_eq!(json["programs"][0]["multiCall"], "busybox");
    }
}
