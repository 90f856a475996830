//! `POST /submit`: passes the body of a report to an [`Intake`] and answers when the report is durable.

use std::time::Instant;

use super::body::{self, ReadError};
use super::budget::Share;
use super::connections::{Connection, Stage};
use super::shared::Shared;
use serde_json::json;

use crate::app::App;
use crate::crash::id::CrashId;
use crate::ingest::{self, Answer, Endpoint, Intake, Refusal, SubmitHead};
use crate::store::StoreError;
use crate::web::Response;
use hyper::body::Incoming;

/// Counts exactly one outcome for each request, even if the client disconnects.
struct Booking<'a> {
    app: &'a App,
    begun: Instant,
    outcome: Outcome,
}

enum Outcome {
    Stored,
    Discarded(String),
    Failed(&'static str),
}

impl Drop for Booking<'_> {
    fn drop(&mut self) {
        let metrics = &self.app.metrics;
        match &self.outcome {
            Outcome::Stored => metrics.stored.add(1),
            Outcome::Discarded(reason) => metrics.discarded.add(reason),
            Outcome::Failed(reason) => metrics.failed.add(reason),
        }
        metrics.submit_seconds.record(self.begun.elapsed());
    }
}

/// Accepts a report and returns the answer to the client.
pub(crate) async fn submit(
    shared: &Shared,
    connection: &Connection,
    head: SubmitHead,
    mut incoming: Incoming,
) -> Response {
    let app = &shared.app;
    app.metrics.received.add(1);
    let mut booking = Booking {
        app,
        begun: Instant::now(),
        outcome: Outcome::Failed("connection_lost"),
    };
    connection.enter(Stage::Body);
    let endpoint = head.endpoint;
    let result = read(shared, connection, head, &mut incoming).await;
    if result.is_err() {
        body::drain(&mut incoming).await;
    }
    let result = match result {
        Err(refusal) => Err(refusal),
        Ok((intake, _share)) => {
            connection.enter(Stage::Working);
            let app = app.clone();
            let work = move || ingest::accept(&app, intake.finish()?);
            match tokio::task::spawn_blocking(work).await {
                Ok(result) => result,
                Err(_) => {
                    booking.app.metrics.panics.add(1);
                    booking.outcome = Outcome::Failed("panic");
                    return Response::text(500, "the report could not be stored\n");
                }
            }
        }
    };
    let (outcome, response) = answer(booking.app, endpoint, result);
    booking.outcome = outcome;
    response
}

async fn read<'s>(
    shared: &'s Shared,
    connection: &Connection,
    head: SubmitHead,
    incoming: &mut Incoming,
) -> Result<(Intake, Share<'s>), Refusal> {
    let app = &shared.app;
    let limits = (&app.config.get().http).into();
    let mut intake = Intake::begin(head, limits, app.store.spill_dir())?;
    let mut share = Share {
        budget: &shared.intake,
        bytes: 0,
    };
    let read = body::pump(incoming, connection, |piece| {
        // A small piece may inflate to much, which takes long. Meanwhile another thread serves the other
        // connections of this one. A plain piece takes less time than changing the thread.
        if intake.may_inflate() {
            tokio::task::block_in_place(|| intake.feed(piece))?;
        } else {
            intake.feed(piece)?;
        }
        share.set(intake.memory_bytes())
    });
    match read.await {
        Ok(()) => Ok((intake, share)),
        Err(ReadError::Refused(refusal)) => Err(refusal),
        Err(ReadError::Incomplete(why)) => Err(ingest::incomplete_body(why)),
        Err(ReadError::TimedOut) => Err(ingest::incomplete_body("the body arrived too slowly")),
    }
}

fn answer(app: &App, endpoint: Endpoint, result: Result<Answer, Refusal>) -> (Outcome, Response) {
    match result {
        Ok(Answer::CrashId(id)) => (Outcome::Stored, stored(app, endpoint, id)),
        // A client that did not get our answer sends its report again.
        Ok(Answer::Repeated(id)) => {
            let outcome = Outcome::Discarded("repeated".into());
            (outcome, stored(app, endpoint, id))
        }
        Ok(Answer::NoCrash { event_id }) => {
            let id = event_id.map(|id| json!({ "id": id }));
            let response = Response::json(&id.unwrap_or_else(|| json!({})));
            (Outcome::Discarded("no_crash".into()), response)
        }
        Ok(Answer::Discarded { rule }) => {
            let reason = format!("rule_{rule}");
            let response = match endpoint {
                Endpoint::SentryEnvelope => Response::json(&json!({ "discarded": reason })),
                _ => Response::text(200, format!("Discarded={reason}\n")),
            };
            (Outcome::Discarded(reason), response)
        }
        Err(Refusal::Malformed { status, code, why }) => {
            tracing::info!(code, why, "a report was malformed");
            let reason = format!("malformed_{code}");
            let response = match endpoint {
                Endpoint::Submit => Response::text(status, format!("Discarded={reason}\n{why}\n")),
                _ => refused(status, &why, &reason),
            };
            (Outcome::Discarded(reason), response)
        }
        Err(Refusal::Store(
            error @ (StoreError::Damaged(_) | StoreError::Newer(_) | StoreError::Corrupt(_)),
        )) => {
            tracing::error!(%error, "a report could not be stored");
            let why = error.to_string();
            let response = match endpoint {
                Endpoint::Submit => Response::text(500, format!("{why}\n")),
                _ => refused(500, &why, "store_damaged"),
            };
            (Outcome::Failed("store_damaged"), response)
        }
        Err(Refusal::Store(error)) => {
            tracing::error!(%error, "a report could not be stored");
            let why = format!("{error}; send the report again later");
            let response = match endpoint {
                Endpoint::Submit => Response::text(503, format!("{why}\n")),
                _ => refused(503, &why, "store"),
            };
            let response = response.with("retry-after", "30".into());
            (Outcome::Failed("store"), response)
        }
    }
}

/// Every client gets an answer that it understands. Relay's clients expect only the id, as text or as JSON.
fn stored(app: &App, endpoint: Endpoint, id: CrashId) -> Response {
    match endpoint {
        Endpoint::Submit => {
            let mut text = format!("CrashID=bp-{id}\n");
            let config = app.config.get();
            let public_url = config.http.public_url.as_str();
            if !public_url.is_empty() {
                text += &format!("ViewURL={public_url}/report/index/{id}\n");
            }
            Response::text(200, text)
        }
        Endpoint::SentryMinidump | Endpoint::SentryUnreal => Response::text(200, id.to_string()),
        Endpoint::SentryEnvelope => {
            let id = id.to_string().replace('-', "");
            Response::json(&json!({ "id": id }))
        }
    }
}

/// A refusal in Relay's format.
fn refused(status: u16, why: &str, reason: &str) -> Response {
    Response {
        status,
        ..Response::json(&json!({ "detail": why, "causes": [reason] }))
    }
}
