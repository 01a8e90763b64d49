//! Connections, from acceptance to their end.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::Service;
use super::connections::{Connections, Place};
use super::patient::Patient;

/// How long to wait before accepting again when the host has no descriptor to give.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(100);

/// Serves connections until `closing` turns true (or its sender is gone); then accepts no more, lets each
/// connection finish the request it is at, and returns when all have ended. Dropping the future ends them at once.
pub async fn serve(listener: TcpListener, service: Arc<Service>, mut closing: watch::Receiver<bool>) {
    let connections = Connections::new(service.config.connection_limit);
    let mut tasks = JoinSet::new();
    loop {
        let (stream, peer) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "could not accept a connection");
                    tokio::time::sleep(PAUSE_AFTER_ERROR).await;
                    continue;
                }
            },
            () = closed(&mut closing) => break,
            Some(_ended) = tasks.join_next(), if !tasks.is_empty() => continue,
        };
        let place = tokio::select! {
            place = connections.admit() => place,
            () = closed(&mut closing) => break,
        };
        let Some(place) = place else { break };
        tasks.spawn(attend(stream, peer, place, service.clone(), closing.clone()));
    }
    drop(listener);
    while tasks.join_next().await.is_some() {}
}

/// Resolves when the service closes.
async fn closed(closing: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone, and with it who would say so.
    let _ = closing.wait_for(|closing| *closing).await;
}

/// Serves one connection until it ends, is asked to leave, or the service closes.
async fn attend(
    stream: TcpStream,
    peer: SocketAddr,
    place: Arc<Place>,
    service: Arc<Service>,
    mut closing: watch::Receiver<bool>,
) {
    // Events are small and must not wait for each other.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "could not set TCP_NODELAY");
    }
    let config = &service.config;
    let stream = TokioIo::new(Patient::new(stream, config.write_patience));
    let answering = service_fn(|request| {
        let busy = place.busy();
        let answer = service.clone().answer(request, peer, place.clone());
        async move { Ok::<_, Infallible>(answer.await.map(|body| body.keeping(busy))) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(config.head_time)
        .max_buf_size(config.head_limit_bytes)
        .max_headers(config.header_limit)
        .serve_connection(stream, answering);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = place.asked_to_leave() => return,
        () = closed(&mut closing) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}
