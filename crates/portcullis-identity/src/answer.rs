//! Reads what the Auth Service says of a user.

use portcullis_core::Principal;
use serde::Deserialize;
use serde::de::IgnoredAny;

/// The longest name of a user, role or permission, in bytes.
const MAX_NAME_BYTES: usize = 256;

/// The answer of `GET {base}/user`. Unknown members are passed over; what is read must be there and of its
/// type, for a rule that denies something to a role must not be lost with a missing list of roles.
#[derive(Deserialize)]
struct UserAnswer {
    user: User,
    #[serde(default)]
    error: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct User {
    id: u64,
    username: Option<String>,
    name: Option<String>,
    roles: Vec<Role>,
}

#[derive(Deserialize)]
struct Role {
    name: String,
    permissions: Vec<Permission>,
}

#[derive(Deserialize)]
struct Permission {
    name: String,
}

/// Reads a principal from the body of a `200`. The problem that it returns otherwise holds nothing of the
/// body, so that a hostile peer writes nothing into our log.
pub(crate) fn read_principal(body: &[u8]) -> Result<Principal, String> {
    let answer: UserAnswer = serde_json::from_slice(body).map_err(|error| {
        let what = if error.is_data() { "not of the expected form" } else { "not JSON" };
        format!("it is {what} (line {}, column {})", error.line(), error.column())
    })?;
    if answer.error.is_some() {
        return Err("it holds an error beside the user".into());
    }
    let user = answer.user;
    if user.id == 0 {
        return Err("the user's id is 0".into());
    }
    let name = user
        .username
        .filter(|name| !name.is_empty())
        .or(user.name)
        .ok_or_else(|| "the user has no name".to_owned())?;

    let mut principal = Principal {
        id: user.id.to_string(),
        name: checked(name, "user")?,
        roles: Default::default(),
        permissions: Default::default(),
    };
    for role in user.roles {
        principal.roles.insert(checked(role.name, "role")?);
        for permission in role.permissions {
            principal.permissions.insert(checked(permission.name, "permission")?);
        }
    }
    Ok(principal)
}

fn checked(name: String, whose: &str) -> Result<String, String> {
    if name.is_empty() {
        Err(format!("a {whose}'s name is empty"))
    } else if name.len() > MAX_NAME_BYTES {
        Err(format!("a {whose}'s name has {} bytes", name.len()))
    } else if name.chars().any(char::is_control) {
        Err(format!("a {whose}'s name holds a control character"))
    } else {
        Ok(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_becomes_a_principal_with_the_permissions_of_all_its_roles() {
        let body = br#"{"user": {"id": 7, "name": "Alice A.", "username": "alice", "email": "a@example.com",
            "email_verified_at": null, "created_at": "2025-03-25T16:17:12.000000Z",
            "roles": [
              {"id": 1, "name": "user", "guard_name": "web", "pivot": {"model_id": 7},
               "permissions": [{"id": 15, "name": "run agents", "guard_name": "web"}, {"id": 16, "name": "view agents"}]},
              {"id": 2, "name": "night shift", "permissions": []}]}}"#;
        let principal = read_principal(body).unwrap();
        assert_eq!(principal.id, "7");
        assert_eq!(principal.name, "alice");
        assert_eq!(Vec::from_iter(&principal.roles), ["night shift", "user"]);
        assert_eq!(Vec::from_iter(&principal.permissions), ["run agents", "view agents"]);
    }

    #[test]
    fn a_user_without_username_goes_by_its_name() {
        for body in [
            r#"{"user":{"id":7,"name":"Alice","roles":[]}}"#,
            r#"{"user":{"id":7,"username":null,"name":"Alice","roles":[]}}"#,
            r#"{"user":{"id":7,"username":"","name":"Alice","roles":[]}}"#,
        ] {
            assert_eq!(read_principal(body.as_bytes()).unwrap().name, "Alice");
        }
    }

    #[test]
    fn nonsense_is_no_principal() {
        for body in [
            "",
            "{}",
            "null",
            "[]",
            "<html>Welcome</html>",
            r#"{"user":null}"#,
            r#"{"user":{}}"#,
            r#"{"message":"Unauthenticated."}"#,
            r#"{"user":{"id":null,"username":"a","roles":[]}}"#,
            r#"{"user":{"id":"1","username":"a","roles":[]}}"#,
            r#"{"user":{"id":"local","username":"a","roles":[]}}"#,
            r#"{"user":{"id":1.5,"username":"a","roles":[]}}"#,
            r#"{"user":{"id":-1,"username":"a","roles":[]}}"#,
            r#"{"user":{"id":0,"username":"a","roles":[]}}"#,
            r#"{"user":{"id":true,"username":"a","roles":[]}}"#,
            r#"{"user":{"id":1,"id":2,"username":"a","roles":[]}}"#,
            r#"{"user":{"id":1,"roles":[]}}"#,
            r#"{"user":{"id":1,"username":7,"roles":[]}}"#,
            r#"{"user":{"id":1,"username":"a"}}"#,
            r#"{"user":{"id":1,"username":"a","roles":null}}"#,
            r#"{"user":{"id":1,"username":"a","roles":["admin"]}}"#,
            r#"{"user":{"id":1,"username":"a","roles":[{"name":"admin"}]}}"#,
            r#"{"user":{"id":1,"username":"a","roles":[{"name":"admin","permissions":["run agents"]}]}}"#,
            r#"{"user":{"id":1,"username":"a\nb","roles":[]}}"#,
            r#"{"user":{"id":1,"username":"a","roles":[]},"error":"token expired"}"#,
            r#"{"user":{"id":1,"username":"a","roles":[]}"#,
            r#"{"user":{"id":1,"username":"a","roles":[]}} and more"#,
        ] {
            assert!(read_principal(body.as_bytes()).is_err(), "{body}");
        }
        let long = format!(r#"{{"user":{{"id":1,"username":"{}","roles":[]}}}}"#, "a".repeat(257));
        assert!(read_principal(long.as_bytes()).is_err());
    }

    #[test]
    fn a_problem_repeats_nothing_of_the_body() {
        for body in [
            r#"{"user":{"id":"\u001b[31mforged","username":"a","roles":[]}}"#,
            r#"{"user":{"id":1,"username":"\u001b[31mforged","roles":[]}}"#,
            "forged",
        ] {
            let problem = read_principal(body.as_bytes()).unwrap_err();
            assert!(!problem.contains("forged") && !problem.contains('\u{1b}'), "{problem:?}");
        }
    }
}
