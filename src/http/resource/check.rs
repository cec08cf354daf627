//! `POST /check`: which of these ads may this user see?

use crate::api::{CandidateVerdicts, CheckAnswer, CheckBody};
use crate::engine::Question;
use crate::http::app::App;
use crate::http::body::{self, Parsed};
use crate::http::pieces::Pieces;
use crate::http::problem::Problem;
use crate::http::route::{Answer, Call, Route};
use crate::model::{Candidate, EventId, Kind, UserId};
use crate::random::random_id;
use crate::service::Signing;
use crate::shard::CandidateVerdict;
use crate::store::Room;
use std::sync::Arc;

/// Bytes of a pixel's URL, about.
const PIXEL_BYTES: usize = 512;

/// The verdicts on many candidate ads of one user
///
/// All are judged on one consistent view, each as `GET /cap` would. Rules of every kind are judged unless `kind` narrows
/// them.
#[utoipa::path(
    post,
    path = "/check",
    operation_id = "checkCandidates",
    tag = "caps",
    request_body(content = CheckBody, content_type = "application/json"),
    responses(
        (status = 200, description = "The verdicts, in the order of the candidates", body = CheckAnswer),
        (status = 400, description = "The body is no JSON, or cannot be unpacked", body = Problem, content_type = "application/problem+json"),
        (status = 408, description = "The body did not arrive in time", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "`pixel` is asked for, and there is no key to sign with", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "More than 1 MiB", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "Unknown content type or encoding", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "A member is missing or invalid, or there are more than 1,000 candidates", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Too many reads are under way", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(in crate::http) async fn post(app: &Arc<App>, call: &mut Call) -> Answer {
    let body = body::read_json(app, call).await?;
    if body.is_large() {
        let Parsed { value: asked, _budget } =
            body.parse_in_background(app, |text| CheckBody::read(text).map(CheckBody::into_owned)).await?;
        return judge(app, call.route, asked).await;
    }
    judge(app, call.route, CheckBody::read(body.text()?)?).await
}

async fn judge(app: &App, route: &Route, asked: CheckBody<'_>) -> Answer {
    let CheckBody { user, mut candidates, kind, at, explain, pixel, .. } = asked;
    let _permit = route.admit(app)?;
    let decisions = &app.services.decisions;
    // Only what the call named is signed: the catalogue is asked again when a pixel is counted.
    let signed = if pixel { Some((app.services.pixels.signing(None)?, candidates.clone())) } else { None };
    let keys_cut = decisions.join_catalogue(&mut candidates);
    let (question, room) = (Question { kind, at, explain }, app.admission.read_budget());
    let answer = decisions.check(&user, &candidates, question, room, |results, mut room| {
        let mut pixels = Vec::new();
        if let Some((signing, named)) = &signed {
            if !room.take(named.len() * PIXEL_BYTES) {
                return Err(room.refusal());
            }
            pixels = pixels_of(signing, &user, kind, named, results);
        }
        let results = CandidateVerdicts(results, &pixels);
        Pieces::json(&CheckAnswer { user: user.as_str(), results, keys_cut }, room)
    });
    answer.await?
}

/// A pixel for each candidate that is not capped. Each has an id of its own: shown twice, it counts twice.
fn pixels_of(
    signing: &Signing<'_>,
    user: &UserId<'_>,
    kind: Option<Kind>,
    named: &[Candidate<'_>],
    results: &[CandidateVerdict<'_>],
) -> Vec<Option<String>> {
    let call = random_id();
    let mut pixels = Vec::with_capacity(named.len());
    for (number, (candidate, result)) in named.iter().zip(results).enumerate() {
        let id = EventId::new(format!("{call}-{number}")).ok().filter(|_| !result.capped);
        pixels.push(id.and_then(|id| signing.url(user, candidate, &id, kind.unwrap_or_default())));
    }
    pixels
}
