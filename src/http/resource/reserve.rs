//! `POST /reserve` and `POST /release`: check and count in one step, held until an event confirms it.

use crate::api::{ReleaseAnswer, ReleaseBody, ReserveAnswer, ReserveBody, completed_reservation};
use crate::http::app::App;
use crate::http::body::{self, Parsed};
use crate::http::problem::{Problem, json, json_bytes};
use crate::http::route::{Answer, Call, Route};
use crate::model::EventId;
use std::sync::Arc;

/// Reserve the first ads that are not capped
///
/// Goes through the candidates in order, each judged against what those before it took, and counts the first `want` that
/// are not capped at once, in one step that no other call comes between: a cap of N never lets an N+1-th through. An event
/// with the same user, ad, kind and id confirms a reservation; unconfirmed it stops counting at `expires_at`. The same call
/// again gives the stored answer, for 1 h after that (24 h where `ttl` is null). An ad whose event with this id is counted
/// already is granted if it is not capped, with `expires_at` null, and not counted once more. One that lapsed or was released is as if it
/// had never been, for reads with an `at` before that, too.
#[utoipa::path(
    post,
    path = "/reserve",
    operation_id = "reserve",
    tag = "reservations",
    request_body(content = ReserveBody, content_type = "application/json"),
    responses(
        (status = 200, description = "What was reserved and what is capped; candidates after the last one reserved are not mentioned", body = ReserveAnswer),
        (status = 400, description = "The body is no JSON, or cannot be unpacked", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "The id is known for this user, with another body; or `pixel` is asked for, and there is no key to sign with", body = Problem, content_type = "application/problem+json"),
        (status = 408, description = "The body did not arrive in time", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "More than 1 MiB", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "Unknown content type or encoding", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "A member is missing or invalid, there are more than 1,000 candidates, or a log has as many kinds as it may", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Too busy, or writes are refused. Sending the call again is safe if it has an id", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(in crate::http) async fn reserve(app: &Arc<App>, call: &mut Call) -> Answer {
    let body = body::read_json(app, call).await?;
    if body.is_large() {
        let Parsed { value: asked, _budget } =
            body.parse_in_background(app, |text| ReserveBody::read(text).map(ReserveBody::into_owned)).await?;
        return reserve_asked(app, call.route, asked).await;
    }
    reserve_asked(app, call.route, ReserveBody::read(body.text()?)?).await
}

async fn reserve_asked(app: &App, route: &Route, mut asked: ReserveBody<'_>) -> Answer {
    let _permit = route.admit(app)?;
    let decisions = &app.services.decisions;
    // Only what the call named is signed: the catalogue is asked again when a pixel is counted.
    let signed = match asked.pixel {
        true => Some((app.services.pixels.signing(None)?, asked.user.clone(), asked.kind, asked.candidates.clone())),
        false => None,
    };
    let keys_cut = decisions.join_catalogue(&mut asked.candidates);
    let stored = decisions.reserve(asked).await?;
    if keys_cut == 0 && signed.is_none() {
        return Ok(json_bytes(stored));
    }
    let mut place = 0;
    let completed = completed_reservation(&stored, keys_cut, |id, da| {
        let (signing, user, kind, named) = signed.as_ref()?;
        // The answer has them in the order of the call.
        place += named[place..].iter().position(|candidate| candidate.da.as_str() == da)?;
        let url = signing.url(user, &named[place], &EventId::new(id).ok()?, *kind);
        place += 1;
        url
    });
    Ok(json_bytes(completed.unwrap_or(stored)))
}

/// Give back what is reserved under an id
#[utoipa::path(
    post,
    path = "/release",
    operation_id = "release",
    tag = "reservations",
    request_body(content = ReleaseBody, content_type = "application/json"),
    responses(
        (status = 200, description = "Of how many candidates it was; 0 of what is confirmed, lapsed or unknown", body = ReleaseAnswer),
        (status = 400, description = "The body is no JSON, or cannot be unpacked", body = Problem, content_type = "application/problem+json"),
        (status = 408, description = "The body did not arrive in time", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "More than 1 MiB", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "Unknown content type or encoding", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "A member is missing or invalid", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Too busy, or writes are refused; sending the call again is safe", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(in crate::http) async fn release(app: &Arc<App>, call: &mut Call) -> Answer {
    let body = body::read_json(app, call).await?;
    if body.is_large() {
        let Parsed { value: asked, _budget } =
            body.parse_in_background(app, |text| ReleaseBody::read(text).map(ReleaseBody::into_owned)).await?;
        return release_asked(app, call.route, asked).await;
    }
    release_asked(app, call.route, ReleaseBody::read(body.text()?)?).await
}

async fn release_asked(app: &App, route: &Route, asked: ReleaseBody<'_>) -> Answer {
    let _permit = route.admit(app)?;
    let released = app.services.decisions.release(asked).await?;
    Ok(json(&ReleaseAnswer { released }))
}
