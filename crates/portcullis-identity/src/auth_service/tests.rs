use std::sync::Mutex;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{advance, sleep};

use super::*;

/// A peer that answers each question with the next of its answers (the last one again and again), each
/// after a permit.
struct Script {
    answers: Mutex<Vec<Answer>>,
    gate: Semaphore,
}

impl Script {
    fn new(answers: impl IntoIterator<Item = Answer>) -> Arc<Self> {
        let mut answers: Vec<_> = answers.into_iter().collect();
        answers.reverse();
        Arc::new(Self { answers: Mutex::new(answers), gate: Semaphore::new(1_000) })
    }

    fn closed(self: Arc<Self>) -> Arc<Self> {
        self.gate.forget_permits(1_000);
        self
    }
}

struct Asking(Arc<Script>);

#[async_trait]
impl Ask for Asking {
    async fn ask(&self, _token: &Secret, _trace: Option<&TraceContext>) -> Answer {
        self.0.gate.acquire().await.unwrap().forget();
        let mut answers = self.0.answers.lock().unwrap();
        if answers.len() > 1 { answers.pop().unwrap() } else { answers[0].clone() }
    }
}

fn authenticator(script: &Arc<Script>) -> Arc<AuthServiceAuthenticator> {
    let config = AuthConfig::new("http://unused");
    Arc::new(AuthServiceAuthenticator::asking(Box::new(Asking(script.clone())), config, None))
}

fn alice(permissions: &[&str]) -> Answer {
    Answer::Known(Arc::new(Principal {
        id: "7".into(),
        name: "alice".into(),
        roles: ["user".to_owned()].into(),
        permissions: permissions.iter().map(|&permission| permission.to_owned()).collect(),
    }))
}

fn with_token(token: &str) -> Credentials {
    Credentials { bearer: Some(Secret::new(token)), ..Credentials::default() }
}

#[tokio::test(start_paused = true)]
async fn a_yes_is_remembered_for_thirty_seconds_and_no_longer() {
    let script = Script::new([alice(&["run agents"]), Answer::Invalid]);
    let users = authenticator(&script);
    assert_eq!(users.authenticate(&with_token("t")).await.unwrap().name, "alice");
    advance(Duration::from_millis(29_900)).await;
    assert!(users.authenticate(&with_token("t")).await.is_ok());
    advance(Duration::from_millis(100)).await; // the user had logged out meanwhile
    assert!(matches!(users.authenticate(&with_token("t")).await, Err(AuthenticateError::Invalid)));
    assert_eq!(users.stats().questions, 2);
}

#[tokio::test(start_paused = true)]
async fn a_yes_is_not_stretched_when_the_peer_fails() {
    let script = Script::new([alice(&["run agents"]), Failure::Status(500).into()]);
    let users = authenticator(&script);
    users.authenticate(&with_token("t")).await.unwrap();
    advance(Duration::from_secs(30)).await;
    let refused = users.authenticate(&with_token("t")).await;
    assert!(matches!(refused, Err(AuthenticateError::Unavailable { .. })), "{refused:?}");
    assert!(users.stats().failing);
}

#[tokio::test(start_paused = true)]
async fn a_missing_permission_is_forbidden_by_its_name_and_says_to_whom() {
    let users = authenticator(&Script::new([alice(&["view agents"])]));
    match users.authenticate(&with_token("t")).await {
        Err(AuthenticateError::Forbidden { permission, principal: Some(who) }) => {
            assert_eq!((permission.as_str(), who.name.as_str()), ("run agents", "alice"));
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_permission_newly_given_counts_after_five_seconds() {
    let users = authenticator(&Script::new([alice(&[]), alice(&["run agents"])]));
    assert!(users.authenticate(&with_token("t")).await.is_err());
    advance(Duration::from_secs(5)).await;
    assert!(users.authenticate(&with_token("t")).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn requests_with_one_token_share_one_question() {
    let script = Script::new([alice(&["run agents"])]).closed();
    let users = authenticator(&script);
    let requests: Vec<_> = (0..100)
        .map(|_| {
            let users = users.clone();
            tokio::spawn(async move { users.authenticate(&with_token("t")).await })
        })
        .collect();
    sleep(Duration::from_millis(1)).await; // paused clock: everybody waits by now
    script.gate.add_permits(1_000);
    for request in requests {
        assert!(request.await.unwrap().is_ok());
    }
    assert_eq!(users.stats().questions, 1);
}

#[tokio::test(start_paused = true)]
async fn who_asked_first_may_hang_up_without_taking_the_answer_from_others() {
    let script = Script::new([alice(&["run agents"])]).closed();
    let users = authenticator(&script);
    let ask = |users: Arc<AuthServiceAuthenticator>| {
        tokio::spawn(async move { users.authenticate(&with_token("t")).await })
    };
    let first = ask(users.clone());
    sleep(Duration::from_millis(1)).await;
    let second = ask(users.clone());
    sleep(Duration::from_millis(1)).await;
    first.abort();
    script.gate.add_permits(1);
    assert!(second.await.unwrap().is_ok());
    assert_eq!(users.stats().questions, 1);
}

#[tokio::test(start_paused = true)]
async fn a_limiting_peer_is_asked_again_only_when_it_said() {
    let limited = Answer::Unknown {
        retry_after: Some(Duration::from_secs(17)),
        failure: Arc::new(Failure::Status(429)),
    };
    let users = authenticator(&Script::new([limited, alice(&["run agents"])]));
    for second in 0..17 {
        match users.authenticate(&with_token("t")).await {
            Err(AuthenticateError::Unavailable { retry_after, .. }) => {
                assert_eq!(retry_after, Some(Duration::from_secs(17 - second)));
            }
            other => panic!("{other:?}"),
        }
        advance(Duration::from_secs(1)).await;
    }
    assert!(users.authenticate(&with_token("t")).await.is_ok());
    assert_eq!(users.stats().questions, 2);
}

#[tokio::test(start_paused = true)]
async fn a_limit_on_one_token_holds_up_no_other() {
    let limited = Answer::Unknown {
        retry_after: Some(Duration::from_secs(60)),
        failure: Arc::new(Failure::Status(429)),
    };
    let users = authenticator(&Script::new([limited, alice(&["run agents"])]));
    assert!(users.authenticate(&with_token("mallory")).await.is_err());
    assert!(!users.stats().failing && users.stats().limited == 1);
    assert!(users.authenticate(&with_token("alice")).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_text_that_is_no_token_is_not_asked_about() {
    let users = authenticator(&Script::new([alice(&["run agents"])]));
    for text in ["", "a b", "a\r\nX: y", &"x".repeat(9_000)] {
        let refused = users.authenticate(&with_token(text)).await;
        assert!(matches!(refused, Err(AuthenticateError::Invalid)));
    }
    let nobody = users.authenticate(&Credentials::default()).await;
    assert!(matches!(nobody, Err(AuthenticateError::Missing)));
    assert_eq!(users.stats().questions, 0);
}
