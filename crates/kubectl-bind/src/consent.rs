//! Asking for consent: the provider's claims as sentences, and the consumer's answer.
//!
//! In: claims with the state that a reviewed file gives them. Out: the same claims, decided; or no bind at all. The
//! question is put to a person at a terminal only, so a script never accepts by accident.

use std::io::{IsTerminal as _, Write as _};

use contract::Claim;
use kube_bind_api::{ClaimState, StatedClaim};

use crate::errors::CliError;
use crate::manifest::Request;

/// Where the claims come from, which decides what "not decided" leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// From the provider just now: a person is asked.
    Provider,
    /// From a reviewed file: what is not accepted in it is not accepted.
    File,
}

/// The claims as a numbered list of sentences.
pub(crate) fn sentences(claims: &[StatedClaim], with_state: bool) -> String {
    let mut out = String::new();
    for (at, stated) in claims.iter().enumerate() {
        let state = if with_state { format!(" [{}]", state_word(stated.state())) } else { String::new() };
        match Claim::parse(&stated.claim) {
            Ok(claim) => {
                out.push_str(&format!("{}. {claim}{state}\n", at + 1));
                for note in claim.notes(|_| None) {
                    out.push_str(&format!("   {note}\n"));
                }
            }
            Err(error) => out.push_str(&format!("{}. a claim that cannot be read ({error}){state}\n", at + 1)),
        }
    }
    out
}

fn state_word(state: ClaimState) -> &'static str {
    match state {
        ClaimState::Accepted => "Accepted",
        ClaimState::Rejected => "Rejected",
        ClaimState::Pending => "Pending",
    }
}

/// Decides the claims of all requests, or says why nothing is bound.
pub(crate) fn decide(requests: &mut [Request], provider: &str, accept: bool, source: Source) -> Result<(), CliError> {
    for request in requests.iter() {
        for stated in &request.spec.permission_claims {
            Claim::parse(&stated.claim).map_err(|error| CliError::Manifest {
                origin: format!("APIServiceExportRequest {}", request.name),
                reason: format!("has a permission claim that is not valid: {error}"),
            })?;
        }
    }
    let undecided = |state: ClaimState| match source {
        Source::Provider => true,
        Source::File => state != ClaimState::Accepted,
    };
    let open: Vec<StatedClaim> = requests
        .iter()
        .flat_map(|request| &request.spec.permission_claims)
        .filter(|stated| undecided(stated.state()))
        .cloned()
        .collect();
    if open.is_empty() {
        return Ok(());
    }
    let list =
        format!("{provider} requests the following permission claims:\n{}", sentences(&open, source == Source::File));
    if !accept {
        let count = open.len();
        if source == Source::File {
            eprint!("{list}");
            return Err(CliError::ClaimsNotAccepted { count, how: ", or write state: Accepted to each in the file" });
        }
        if !std::io::stdin().is_terminal() {
            eprint!("{list}");
            return Err(CliError::ClaimsNotAccepted { count, how: "" });
        }
        if !ask(&list)? {
            return Err(CliError::ClaimsDeclined);
        }
    }
    for stated in requests.iter_mut().flat_map(|request| &mut request.spec.permission_claims) {
        // An explicit no in a reviewed file stays a no.
        if !(source == Source::File && stated.state() == ClaimState::Rejected) {
            stated.state = Some(ClaimState::Accepted);
        }
    }
    Ok(())
}

/// Puts the question; everything but a yes is a no.
fn ask(list: &str) -> Result<bool, CliError> {
    // Nothing is locked while waiting for the answer: whoever interrupts the wait has something to say too.
    eprint!("{list}Accept? [y,N] ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    let read = std::io::stdin().read_line(&mut answer)?;
    if read == 0 {
        eprintln!();
    }
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

#[cfg(test)]
mod tests {
    use kube_bind_api::{ClaimOwner, PermissionClaim, Reference, ReferencePath, Selector};

    use super::*;

    fn claim(resource: &str, path: &str) -> StatedClaim {
        let reference = Reference {
            group: "acmedb.example".into(),
            resource: "things".into(),
            kind: Some("Thing".into()),
            json_path: ReferencePath { name: path.into(), namespace: None },
            ..Reference::default()
        };
        let claim = PermissionClaim {
            resource: resource.into(),
            owner: Some(ClaimOwner::Provider),
            verbs: vec!["create".into()],
            selector: Selector { references: vec![reference], ..Selector::default() },
            ..PermissionClaim::default()
        };
        StatedClaim { claim, state: None }
    }

    fn requests(state: Option<ClaimState>) -> Vec<Request> {
        let mut claims = vec![claim("secrets", ".spec.token"), claim("services", ".metadata.name")];
        claims[0].state = state;
        let spec = kube_bind_api::APIServiceExportRequestSpec { permission_claims: claims, ..Default::default() };
        vec![Request { name: "things".into(), spec }]
    }

    #[test]
    fn the_prompt_reads_like_prose() {
        let list = sentences(&requests(None)[0].spec.permission_claims, false);
        assert_eq!(
            list,
            "1. Create secrets referenced in Thing.spec.token\n2. Create service named Thing.metadata.name\n"
        );
    }

    #[test]
    fn a_file_needs_every_claim_accepted_or_the_flag() {
        let mut some = requests(Some(ClaimState::Accepted));
        let error = decide(&mut some, "P", false, Source::File).unwrap_err();
        assert!(
            matches!(error, CliError::ClaimsNotAccepted { count: 1, .. }),
            "what is accepted does not count: {error}"
        );
        decide(&mut some, "P", true, Source::File).unwrap();
        assert!(some[0].spec.permission_claims.iter().all(|stated| stated.state() == ClaimState::Accepted));
        let mut rejected = requests(Some(ClaimState::Rejected));
        assert!(decide(&mut rejected, "P", false, Source::File).is_err());
        decide(&mut rejected, "P", true, Source::File).unwrap();
        assert_eq!(rejected[0].spec.permission_claims[0].state(), ClaimState::Rejected);
    }

    #[test]
    fn the_provider_cannot_answer_for_the_consumer() {
        let mut sly = requests(Some(ClaimState::Accepted));
        sly[0].spec.permission_claims[1].state = Some(ClaimState::Accepted);
        // Tests run without a terminal.
        assert!(matches!(
            decide(&mut sly, "P", false, Source::Provider),
            Err(CliError::ClaimsNotAccepted { .. } | CliError::ClaimsDeclined)
        ));
    }
}
