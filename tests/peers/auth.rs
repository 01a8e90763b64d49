//! The Auth Service's side of the promises, with a peer program of our own that gives the contract's answers
//! and every wrong one.
#![expect(clippy::unwrap_used, reason = "a test fails by it")]

mod node;

use std::time::{Duration, Instant};

use node::Node;
use portcullis_core::{AuthenticateError, Authenticator as _, Credentials, Principal, Secret};
use portcullis_identity::{AuthConfig, AuthServiceAuthenticator};

const SERVER: &str = "auth-service/server.mjs";

fn users(base: String) -> AuthServiceAuthenticator {
    AuthServiceAuthenticator::new(AuthConfig { deadline: Duration::from_secs(2), ..AuthConfig::new(base) })
        .unwrap()
}

async fn ask(users: &AuthServiceAuthenticator, token: &str) -> Result<Principal, AuthenticateError> {
    users.authenticate(&Credentials { bearer: Some(Secret::new(token)), ..Credentials::default() }).await
}

#[tokio::test]
async fn users_are_known_by_their_tokens_with_and_without_api_in_the_url() {
    if !node::can_run("auth-service") {
        return;
    }
    let (_server, port) = Node::start_server(SERVER, &[]).await;
    for base in [format!("http://127.0.0.1:{port}/api"), format!("http://127.0.0.1:{port}")] {
        let users = users(base);
        let alice = ask(&users, "alice-token").await.unwrap();
        assert_eq!((alice.id.as_str(), alice.name.as_str()), ("2", "alice"));
        assert!(alice.roles.contains("user") && alice.permissions.contains("run agents"));
        let admin = ask(&users, "admin-token").await.unwrap();
        assert!(admin.roles.contains("admin") && admin.permissions.contains("manage users"));
        for token in ["guest-token", "roleless-token", "disabled-token"] {
            let refused = ask(&users, token).await;
            assert!(matches!(refused, Err(AuthenticateError::Forbidden { .. })), "{token}: {refused:?}");
        }
        for token in ["logged-out-token", "expired-token", "nonsense"] {
            let refused = ask(&users, token).await;
            assert!(matches!(refused, Err(AuthenticateError::Invalid)), "{token}: {refused:?}");
        }
    }
}

#[tokio::test]
async fn no_failure_of_the_peer_lets_anybody_in_or_takes_longer_than_its_deadline() {
    if !node::can_run("auth-service") {
        return;
    }
    let (_server, port) = Node::start_server(SERVER, &[]).await;
    for mode in [
        "slow", "silent", "drip", "broken", "reset", "html", "empty", "nullid", "types", "error200", "huge",
        "endless", "redirect", "500", "503", "limit",
    ] {
        let users = users(format!("http://127.0.0.1:{port}/mode/{mode}/api"));
        let begun = Instant::now();
        let refused = ask(&users, "alice-token").await;
        assert!(begun.elapsed() < Duration::from_secs(4), "{mode}: {:?}", begun.elapsed());
        match refused {
            Err(AuthenticateError::Unavailable { retry_after, .. }) => {
                let expected = matches!(mode, "503" | "limit").then_some(Duration::from_secs(2));
                assert_eq!(retry_after, expected, "{mode}");
            }
            other => panic!("{mode}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn one_user_over_the_limit_takes_nothing_from_another() {
    if !node::can_run("auth-service") {
        return;
    }
    let (_server, port) = Node::start_server(SERVER, &[("RATE_LIMIT", "3")]).await;
    let config = AuthConfig {
        accepted_for: Duration::ZERO,
        ..AuthConfig::new(format!("http://127.0.0.1:{port}/api"))
    };
    let users = AuthServiceAuthenticator::new(config).unwrap();
    for _ in 0..3 {
        ask(&users, "alice-token").await.unwrap();
    }
    for _ in 0..50 {
        match ask(&users, "alice-token").await {
            Err(AuthenticateError::Unavailable { retry_after: Some(wait), .. }) => {
                assert!(wait > Duration::from_secs(30));
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(users.stats().questions, 4, "the peer is left alone for as long as it asked");
    ask(&users, "bob-token").await.unwrap();
}
