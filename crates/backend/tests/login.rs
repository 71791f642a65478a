//! Negative test 7 (`design/scenarios.md`): state, nonce, PKCE, replay, foreign audience, open redirect, fixation, callback
//! from another origin; and that one consumer never gets another's credential.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use backend::OidcConfig;
use common::{
    BASE, Browser, CLIENT, Twist, VERIFIER, action, bind_url, call, encode, field, param, set, set_with, wire_token,
};
use http::{Method, StatusCode};
use rstest::rstest;
use serde_json::json;

fn challenge() -> String {
    format!("&code_challenge={}", backend::seal::s256(VERIFIER))
}

#[tokio::test]
async fn bind_in_the_browser_and_redeem_once() {
    let set = set().await;
    let mut browser = Browser::default();
    let page = bind_url("/kubernetes", "uid-1", &challenge());
    let back = browser.log_in(&set, &page, "alice").await.location();
    assert_eq!(back.path(), "/kubernetes");
    let page = browser.get(&set.router, back.as_str()).await;
    assert_eq!(page.status, StatusCode::OK);
    assert!(page.body.contains("Bind our Kubernetes API in no time"));
    assert!(page.body.contains("Create secrets referenced in Widget.spec.tokenSecret"));
    assert!(set.api.writes().is_empty(), "looking at the page writes nothing");
    let policy = page.headers["content-security-policy"].to_str().unwrap();
    assert!(
        policy.contains("default-src 'none'") && policy.contains("form-action 'self' http://127.0.0.1:44597;"),
        "{policy}"
    );

    let form = format!("token={}", encode(&field(&page.body, "token")));
    let done = browser.send(&set.router, Method::POST, &action(&page.body), &[], &form).await.location();
    assert_eq!(done.as_str().split('?').next(), Some(CLIENT));
    assert_eq!(param(&done, "session_id"), "S1");
    assert_eq!(param(&done, "consumer_id"), "uid-1");
    assert_eq!(param(&done, "binding_response"), "", "no credential in a URL");

    let code = param(&done, "code");
    let redeem = |code: String, verifier: &'static str| {
        let router = set.router.clone();
        async move {
            let body = json!({"code": code, "codeVerifier": verifier}).to_string();
            call(&router, Method::POST, "/api/redeem", &[("content-type", "application/json")], &body).await
        }
    };
    let stolen = redeem(code.clone(), "not-the-verifier-but-long-enough-to-be-one-0123456789").await;
    assert_eq!(stolen.status, StatusCode::BAD_REQUEST);
    let answer = redeem(code.clone(), VERIFIER).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    assert_eq!(answer.json()["kind"], "BindingResponse");
    assert!(!answer.json()["kubeconfig"].as_str().unwrap().is_empty());
    assert_eq!(redeem(code, VERIFIER).await.status, StatusCode::BAD_REQUEST, "a code works once");
}

#[tokio::test]
async fn a_login_of_the_command_line_gives_a_code_not_a_token() {
    let set = set().await;
    let start = format!("/api/authorize?client_type=cli&session_id=S9&redirect_url={}{}", encode(CLIENT), challenge());
    let done = Browser::default().log_in(&set, &start, "alice").await.location();
    assert_eq!(param(&done, "access_token"), "");
    assert_eq!(param(&done, "session_id"), "S9");
    let body = json!({"code": param(&done, "code"), "codeVerifier": VERIFIER}).to_string();
    let token = call(&set.router, Method::POST, "/api/redeem", &[], &body).await.json();
    assert_eq!(token["token_type"], "Bearer");
    let bearer = format!("Bearer {}", token["access_token"].as_str().unwrap());
    assert_eq!(call(&set.router, Method::GET, "/api/ping", &[("authorization", &bearer)], "").await.body, "pong");
}

#[tokio::test]
async fn groups_are_asked_for_where_the_id_token_has_none() {
    let set = set().await;
    let mut browser = Browser::default();
    let start = format!("/api/authorize?client_type=cli&session_id=S9&redirect_url={}{}", encode(CLIENT), challenge());
    let callback = browser.reach_callback(&set, &start, "grace", Twist::GroupsElsewhere).await;
    let done = browser.get(&set.router, callback.as_str()).await.location();
    let body = json!({"code": param(&done, "code"), "codeVerifier": VERIFIER}).to_string();
    let token = call(&set.router, Method::POST, "/api/redeem", &[], &body).await.json();
    let bearer = format!("Bearer {}", token["access_token"].as_str().unwrap());
    let templates = call(&set.router, Method::GET, "/api/templates", &[("authorization", &bearer)], "").await;
    assert_eq!(templates.status, StatusCode::OK, "{}", templates.body);
}

#[tokio::test]
async fn an_issuer_that_knows_no_groups_is_asked_for_less() {
    const KNOWN: [&str; 3] = ["openid", "profile", "email"];
    let page = "/api/authorize?client_type=ui&session_id=S1&redirect_url=/kubernetes";

    let set = set().await;
    let mut browser = Browser::default();
    let there = browser.reach_issuer(&set, page).await;
    assert_eq!(param(&there, "scope"), "openid profile email groups");
    let refused = set.issuer.refuse_scopes(&there, &KNOWN).unwrap();
    let said = browser.get(&set.router, refused.as_str()).await;
    assert_eq!(said.status, StatusCode::BAD_REQUEST, "{}", said.body);
    for words in
        ["unknown scope groups", "openid profile email groups", "--oidc-scopes", "oidc.scopes", "profile,email"]
    {
        assert!(said.body.contains(words), "{words}: {}", said.body);
    }
    // A command line that waits is told the same.
    let there = browser.reach_issuer(&set, &bind_url("/kubernetes", "u", "")).await;
    let refused = set.issuer.refuse_scopes(&there, &KNOWN).unwrap();
    let back = browser.get(&set.router, refused.as_str()).await.location();
    assert_eq!(back.as_str().split('?').next(), Some(CLIENT));
    assert_eq!(param(&back, "error"), "invalid_scope");
    let told = param(&back, "error_description");
    assert!(told.contains("unknown scope groups; ") && told.contains("--oidc-scopes"), "{told}");

    // What is left out is not asked for; openid always is, once.
    for (scopes, asked) in [
        (vec!["profile", "email"], "openid profile email"),
        (vec!["openid", "email"], "openid email"),
        (vec![""], "openid"),
    ] {
        let scopes = scopes.into_iter().map(str::to_owned).collect();
        let set = set_with(OidcConfig { scopes, ..OidcConfig::default() }).await;
        let mut browser = Browser::default();
        let there = browser.reach_issuer(&set, page).await;
        assert_eq!(param(&there, "scope"), asked);
        assert_eq!(set.issuer.refuse_scopes(&there, &KNOWN), None);
        let callback = set.issuer.consent(&there, "alice", Twist::None);
        let back = browser.get(&set.router, callback.as_str()).await.location();
        assert_eq!(back.path(), "/kubernetes");
    }
}

#[rstest]
#[case(Twist::ForeignAudience)]
#[case(Twist::ForeignIssuer)]
#[case(Twist::WrongNonce)]
#[case(Twist::NoNonce)]
#[case(Twist::Expired)]
#[case(Twist::OtherKey)]
#[case(Twist::Unsigned)]
#[case(Twist::Missing)]
#[case(Twist::ForeignUserInfo)]
#[tokio::test]
async fn an_id_token_that_is_not_for_us_is_refused(#[case] twist: Twist) {
    let set = set().await;
    let mut browser = Browser::default();
    let callback = browser.reach_callback(&set, &bind_url("/kubernetes", "uid-1", ""), "alice", twist).await;
    let answer = browser.get(&set.router, callback.as_str()).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{}", answer.body);
    assert!(browser.cookies.keys().all(|name| name.contains("login")), "no session came of it");
}

#[tokio::test]
async fn a_callback_works_once_and_only_in_the_browser_that_started_it() {
    let set = set().await;
    let mut victim = Browser::default();
    let page = bind_url("/kubernetes", "uid-1", "");
    let callback = victim.reach_callback(&set, &page, "alice", Twist::None).await;

    // Another browser, without or with a login of its own in progress.
    let mut other = Browser::default();
    assert_eq!(other.get(&set.router, callback.as_str()).await.status, StatusCode::BAD_REQUEST);
    other.reach_callback(&set, &page, "mallory", Twist::None).await;
    let renamed: Vec<String> = victim.cookies.keys().cloned().collect();
    let own = other.cookies.values().next().unwrap().clone();
    other.cookies.insert(renamed[0].clone(), own);
    assert_eq!(other.get(&set.router, callback.as_str()).await.status, StatusCode::BAD_REQUEST);

    let before = victim.clone();
    assert_eq!(victim.get(&set.router, callback.as_str()).await.status, StatusCode::FOUND);
    assert_eq!(victim.get(&set.router, callback.as_str()).await.status, StatusCode::BAD_REQUEST, "cookie gone");
    let mut replay = before;
    assert_eq!(replay.get(&set.router, callback.as_str()).await.status, StatusCode::BAD_REQUEST, "used");
}

#[tokio::test]
async fn state_is_ours_or_nothing() {
    let set = set().await;
    let mut browser = Browser::default();
    let callback = browser.reach_callback(&set, &bind_url("/kubernetes", "uid-1", ""), "alice", Twist::None).await;
    let forged = callback.as_str().replace("state=", "state=A");
    assert_eq!(browser.get(&set.router, &forged).await.status, StatusCode::BAD_REQUEST);
    assert_eq!(browser.get(&set.router, "/api/callback?code=x&state=e30").await.status, StatusCode::BAD_REQUEST);
    assert_eq!(browser.get(&set.router, "/api/callback").await.status, StatusCode::BAD_REQUEST);
    let mixed = format!("{callback}&iss=https%3A%2F%2Fevil.example");
    assert_eq!(browser.get(&set.router, &mixed).await.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn pkce_is_always_used() {
    let set = set().await;
    let (mut one, mut two) = (Browser::default(), Browser::default());
    let page = bind_url("/kubernetes", "uid-1", "");
    let first = one.reach_callback(&set, &page, "alice", Twist::None).await;
    let second = two.reach_callback(&set, &page, "alice", Twist::None).await;
    // A code that was stolen and injected into another login fails at the issuer.
    let injected = second.as_str().replace(&param(&second, "code"), &param(&first, "code"));
    assert_eq!(two.get(&set.router, &injected).await.status, StatusCode::BAD_REQUEST);
}

#[rstest]
#[case("cli", "https://evil.example/callback")]
#[case("cli", "http://127.0.0.1.evil.example:80/callback")]
#[case("cli", "http://user@127.0.0.1:80/")]
#[case("cli", "/exports")]
#[case("ui", "https://evil.example/")]
#[case("ui", "//evil.example/")]
#[case("ui", "/\\evil.example")]
#[case("ui", "http://127.0.0.1:18071/")]
#[case("", "javascript:alert(1)")]
#[tokio::test]
async fn no_open_redirect(#[case] client: &str, #[case] target: &str) {
    let set = set().await;
    let url = format!("/api/authorize?client_type={client}&session_id=S1&redirect_url={}", encode(target));
    let answer = call(&set.router, Method::GET, &url, &[], "").await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{}", answer.body);
    if target.starts_with("http://127.0.0.1:") {
        return; // On the page it is where a command line waits.
    }
    let page = format!("/kubernetes?session_id=S1&redirect_url={}", encode(target));
    let answer = Browser::default().get(&set.router, &page).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{}", answer.body);
}

#[tokio::test]
async fn a_session_is_not_what_somebody_put_there() {
    let set = set().await;
    let page = bind_url("/kubernetes", "uid-1", "");
    let mut attacker = Browser::default();
    attacker.log_in(&set, &page, "mallory").await;
    let mut victim = Browser { cookies: attacker.cookies.clone() };
    victim.log_in(&set, "/api/authorize?client_type=ui&session_id=S1&redirect_url=/kubernetes", "alice").await;
    assert_ne!(attacker.cookies, victim.cookies, "the login made a session of its own");
    let mut made_up = Browser::default();
    let name = attacker.cookies.keys().next().unwrap().clone();
    made_up.cookies.insert(name, "S1".into());
    assert_eq!(made_up.get(&set.router, &page).await.status, StatusCode::FOUND, "unknown sessions lead to the login");
}

#[tokio::test]
async fn forms_of_others_are_refused() {
    let set = set().await;
    let url = bind_url("/exports/widget", "uid-1", &challenge());
    let (mut alice, mut bob) = (Browser::default(), Browser::default());
    alice.log_in(&set, &url, "alice").await;
    bob.log_in(&set, &url, "bob").await;
    let page = alice.get(&set.router, &url).await;
    let target = action(&page.body);
    let token = format!("token={}", encode(&field(&page.body, "token")));
    let bobs = format!("token={}", encode(&field(&bob.get(&set.router, &url).await.body, "token")));
    let elsewhere = target.replace("consumer_id=uid-1", "consumer_id=uid-2");
    for (url, headers, body) in [
        (&target, vec![], ""),
        (&target, vec![], bobs.as_str()),
        (&elsewhere, vec![], token.as_str()),
        (&target, vec![("origin", "https://evil.example")], token.as_str()),
        (&target, vec![("sec-fetch-site", "cross-site")], token.as_str()),
    ] {
        let answer = alice.send(&set.router, Method::POST, url, &headers, body).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{headers:?} {body}");
    }
    assert!(set.api.writes().is_empty(), "nothing was made");
    let fine = alice.send(&set.router, Method::POST, &target, &[("sec-fetch-site", "same-origin")], &token).await;
    assert_eq!(fine.status, StatusCode::FOUND, "{}", fine.body);
    let mut nobody = Browser::default();
    assert_eq!(nobody.send(&set.router, Method::POST, &target, &[], &token).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_cookie_binds_only_from_our_own_pages() {
    let set = set().await;
    let mut alice = Browser::default();
    alice.log_in(&set, "/api/authorize?client_type=ui&session_id=S1&redirect_url=/kubernetes", "alice").await;
    let body = json!({"spec": {"templateRef": {"name": "widget"}, "clusterIdentity": {"identity": "u"}}}).to_string();
    let foreign: [&[(&str, &str)]; 6] = [
        &[("sec-fetch-site", "same-site")],
        &[("sec-fetch-site", "cross-site"), ("origin", "null")],
        // Where it says both, the browser's word on the site counts.
        &[("sec-fetch-site", "same-site"), ("origin", "http://127.0.0.1:18070")],
        // Older browsers, and plain HTTP, say only where from.
        &[("origin", "http://sibling.127.0.0.1.example:18070")],
        &[("origin", "http://127.0.0.1:18071")],
        &[("origin", "null")],
    ];
    for headers in foreign {
        let answer = alice.send(&set.router, Method::POST, "/api/bind", headers, &body).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{headers:?}: {}", answer.body);
        assert_eq!(answer.json()["code"], "AUTHORIZATION_FAILED");
        assert_eq!(answer.json()["message"], "Another site asked for this");
        let details = answer.json()["details"].as_str().unwrap().to_owned();
        assert!(details.contains(BASE) && details.contains("bearer token"), "{details}");
    }
    assert!(set.api.writes().is_empty(), "nothing was made");

    // Reading changes nothing, and other sites do not get to see the answer.
    let read = alice.send(&set.router, Method::GET, "/api/ping", &[("sec-fetch-site", "same-site")], "").await;
    assert_eq!((read.status, read.body.as_str()), (StatusCode::OK, "pong"));
    // A token does not travel by itself.
    let bearer = format!("Bearer {}", wire_token(&set, "alice").await);
    let headers = [("authorization", bearer.as_str()), ("origin", "https://elsewhere.example")];
    let with_token = call(&set.router, Method::POST, "/api/bind?dry_run=true", &headers, &body).await;
    assert_eq!(with_token.status, StatusCode::OK, "{}", with_token.body);
    let ours: [&[(&str, &str)]; 3] =
        [&[("sec-fetch-site", "same-origin")], &[("origin", "http://127.0.0.1:18070")], &[]];
    for headers in ours {
        let answer = alice.send(&set.router, Method::POST, "/api/bind?dry_run=true", headers, &body).await;
        assert_eq!(answer.status, StatusCode::OK, "{headers:?}: {}", answer.body);
    }
    // A token that is worth nothing does not make the cookie worth more.
    let headers = [("authorization", "Bearer nonsense"), ("sec-fetch-site", "same-site")];
    let answer = alice.send(&set.router, Method::POST, "/api/bind", &headers, &body).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN, "{}", answer.body);
}

#[tokio::test]
async fn naming_anothers_cluster_gives_a_contract_of_ones_own() {
    let set = set().await;
    let body = json!({"metadata": {"name": "widget"}, "spec": {"templateRef": {"name": "widget"},
        "clusterIdentity": {"identity": "uid-1"}}})
    .to_string();
    let mut namespaces = Vec::new();
    let mut credentials = Vec::new();
    for subject in ["alice", "bob", "alice"] {
        let bearer = format!("Bearer {}", wire_token(&set, subject).await);
        let answer = call(&set.router, Method::POST, "/api/bind", &[("authorization", &bearer)], &body).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        namespaces.push(answer.json()["providerNamespace"].clone());
        credentials.push(answer.json()["kubeconfig"].clone());
        let other =
            call(&set.router, Method::POST, "/api/bind?consumer_id=uid-1", &[("authorization", &bearer)], &body).await;
        assert_eq!(other.json()["providerNamespace"], namespaces[namespaces.len() - 1]);
    }
    assert_ne!(namespaces[0], namespaces[1]);
    assert_ne!(credentials[0], credentials[1]);
    assert_eq!((&namespaces[0], &credentials[0]), (&namespaces[2], &credentials[2]), "twice is once");
}

#[tokio::test]
async fn who_may_not_bind_gets_nothing() {
    let set = set().await;
    let bearer = format!("Bearer {}", wire_token(&set, "mallory").await);
    for path in ["/api/ping", "/api/templates", "/api/collections", "/api/consumer-status"] {
        let answer = call(&set.router, Method::GET, path, &[("authorization", &bearer)], "").await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN);
        assert_eq!(answer.json()["code"], "AUTHORIZATION_FAILED");
    }
    let mut browser = Browser::default();
    let page = browser.log_in(&set, &bind_url("/kubernetes", "u", ""), "mallory").await.location();
    assert_eq!(browser.get(&set.router, page.as_str()).await.status, StatusCode::FORBIDDEN);
    assert!(set.api.writes().is_empty());
}

#[tokio::test]
async fn a_refused_consent_ends_the_wait_of_the_command_line() {
    let set = set().await;
    let mut browser = Browser::default();
    let callback = browser.reach_callback(&set, &bind_url("/kubernetes", "u", ""), "alice", Twist::None).await;
    let refused =
        format!("/api/callback?error=access_denied&error_description=no&state={}", encode(&param(&callback, "state")));
    let back = browser.get(&set.router, &refused).await.location();
    assert_eq!(back.as_str().split('?').next(), Some(CLIENT));
    assert_eq!((param(&back, "error"), param(&back, "session_id")), ("access_denied".into(), "S1".into()));
    // The same by Back on the page.
    browser.log_in(&set, &bind_url("/kubernetes", "u", ""), "alice").await;
    let page = browser.get(&set.router, &bind_url("/kubernetes", "u", "")).await.body;
    assert!(page.contains("44597/callback?error=access_denied"), "{page}");
}

#[tokio::test]
async fn a_revoked_contract_is_not_issued_again() {
    let set = set().await;
    let bearer = format!("Bearer {}", wire_token(&set, "alice").await);
    let body = json!({"spec": {"templateRef": {"name": "widget"}, "clusterIdentity": {"identity": "u"}}}).to_string();
    let first = call(&set.router, Method::POST, "/api/bind", &[("authorization", &bearer)], &body).await.json();
    let namespace = first["providerNamespace"].as_str().unwrap();
    let path = format!("/apis/kube-bind.io/v1alpha2/namespaces/{namespace}/clusterbindings/cluster");
    let mut binding = set.api.get(&path).unwrap();
    assert_eq!(binding["spec"]["consumerClusterUID"], "u");
    binding["metadata"]["annotations"]["backend.kube-bind.io/revoked"] = json!("2026-01-01T00:00:00Z");
    set.api.put(&path, binding);
    let again = call(&set.router, Method::POST, "/api/bind", &[("authorization", &bearer)], &body).await;
    assert_eq!(again.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_contract_moves_only_when_asked_and_gets_a_new_credential() {
    let set = set().await;
    let bearer = format!("Bearer {}", wire_token(&set, "alice").await);
    let bind = |subject_bearer: String, uid: &'static str, query: String| {
        let router = set.router.clone();
        async move {
            let body =
                json!({"spec": {"templateRef": {"name": "widget"}, "clusterIdentity": {"identity": uid}}}).to_string();
            call(&router, Method::POST, &format!("/api/bind{query}"), &[("authorization", &subject_bearer)], &body)
                .await
        }
    };
    let old = bind(bearer.clone(), "uid-1", String::new()).await.json();
    let namespace = old["providerNamespace"].as_str().unwrap().to_owned();
    // The page asks.
    let url = bind_url("/kubernetes", "uid-2", &format!("&contract={namespace}"));
    let mut browser = Browser::default();
    browser.log_in(&set, &url, "alice").await;
    let page = browser.get(&set.router, &url).await.body;
    assert!(page.contains("This contract belongs to cluster uid-1, never heard of. Move it here?"), "{page}");
    // Somebody else cannot.
    let bob = format!("Bearer {}", wire_token(&set, "bob").await);
    assert_eq!(bind(bob, "uid-2", format!("?contract={namespace}")).await.status, StatusCode::CONFLICT);
    let moved = bind(bearer.clone(), "uid-2", format!("?contract={namespace}")).await.json();
    assert_eq!(moved["providerNamespace"], namespace.as_str());
    assert_ne!(moved["kubeconfig"], old["kubeconfig"]);
    // Twice is once.
    let again = bind(bearer, "uid-2", format!("?contract={namespace}")).await.json();
    assert_eq!(again["kubeconfig"], moved["kubeconfig"]);
}
