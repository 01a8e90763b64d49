//! A caller's own executions, page by page.

use portcullis_api::ExecutionList;
use portcullis_core::Status;
use serde_json::json;

use crate::served::Served;

async fn list(served: &Served, path: &str) -> (ExecutionList, Option<String>) {
    let answer = served.get(path).await.expect_status(200);
    let link = answer.headers.get("link").map(|link| link.to_str().unwrap().to_owned());
    (answer.read(), link)
}

fn ids(list: &ExecutionList) -> Vec<&str> {
    list.executions.iter().map(|execution| execution.execution_id.as_str()).collect()
}

#[tokio::test]
async fn pages_follow_each_other_newest_first_by_link_and_by_cursor() {
    let served = Served::start().await;
    for id in ["a", "b", "c"] {
        served.run(id, "echo x").await;
    }
    let (first, link) = list(&served, "/api/commands?limit=2&status=completed").await;
    assert_eq!(ids(&first), ["c", "b"]);
    assert_eq!(
        (first.executions[0].status, first.executions[0].output.as_deref()),
        (Status::Completed, None)
    );
    let link = link.unwrap();
    let next = link.strip_prefix('<').unwrap().strip_suffix(">; rel=\"next\"").unwrap();
    assert!(next.contains("limit=2") && next.contains("status=completed"), "{next}");
    let (second, link) = list(&served, next).await;
    assert_eq!((ids(&second), second.next.as_deref(), link), (vec!["a"], None, None));
}

#[tokio::test]
async fn lists_hold_what_they_were_asked_for_and_nothing_of_others() {
    let served = Served::start().await;
    served.run("a", "echo x").await;
    served.run("b", "exit 3").await;
    let body = json!({"executionId": "bobs", "command": "echo x"});
    served.request("POST", "/api/commands").token("bob").json(&body).send().await.expect_status(201);
    assert_eq!(ids(&list(&served, "/api/commands").await.0), ["b", "a"]);
    assert_eq!(ids(&list(&served, "/api/commands?status=failed").await.0), ["b"]);
    assert_eq!(ids(&list(&served, "/api/commands?program=echo").await.0), ["a"]);
    assert_eq!(ids(&list(&served, "/api/commands?acceptedBefore=2020-01-01T00:00:00Z").await.0), [""; 0]);
    assert_eq!(ids(&list(&served, "/api/commands?acceptedFrom=2020-01-01T00:00:00Z").await.0), ["b", "a"]);
}
