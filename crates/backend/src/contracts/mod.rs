//! Contracts: one consumer identity at this provider, its namespace and its credential.
//!
//! In: a logged-in [`Person`] and the consumer cluster's UID. Out: the contract namespace with everything in it
//! (`design/contract.md` §5, reference §2.5), and the kubeconfig that opens it. A contract is found by its annotations
//! and belongs to issuer, subject and cluster UID; naming somebody else's cluster leads to a contract of one's own,
//! never to theirs. Called by `bind`, `http` and the controllers.

use std::time::Duration;

use jiff::Timestamp;
use kube_bind_api::constants::{
    ANNOTATION_ALLOWED_GROUPS, ANNOTATION_ALLOWED_SUBJECTS, ANNOTATION_AUTHOR, ANNOTATION_CLUSTER_PRETTY_NAME,
    ANNOTATION_IDENTITY, ANNOTATION_ISSUER, ANNOTATION_LEGACY_IDENTITY, ANNOTATION_REVOKED, CLUSTER_BINDING,
    KUBECONFIG_KEY, KUBECONFIG_SECRET,
};
use kube_bind_api::{APIServiceExport, ClusterBinding, InformerScope, Isolation};
use kube_client::{Api, ApiError, Class, FieldManager, ListQuery, ObjectKey, Resource, Subresource};
use serde_json::{Value, json};

mod credential;

pub use credential::{revoke, rotate};

use crate::controllers::rights;
use crate::identity::oidc::Person;
use crate::release::{self, ANNOTATION_ISSUED, ONCE};
use crate::resources;

/// Under which name our writes are recorded.
pub const MANAGER: FieldManager = FieldManager("kube-bind-backend");
/// How long the namespace of a contract that ended may take to go.
const GOING_PATIENCE: Duration = Duration::from_secs(30);
/// How long a fresh role binding may take to be believed.
const RBAC_PATIENCE: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(100);

/// How contracts are made here.
#[derive(Clone, Debug)]
pub struct Issuing {
    /// The provider's name as people read it.
    pub pretty_name: String,
    /// Start of contract namespaces' names.
    pub namespace_prefix: String,
    /// API server URL in consumers' kubeconfigs.
    pub server: String,
    /// CA in consumers' kubeconfigs, PEM; empty leaves it to the consumer's system.
    pub ca: String,
    /// `tls-server-name` in consumers' kubeconfigs.
    pub tls_server_name: Option<String>,
    /// How agents watch.
    pub informer_scope: InformerScope,
    /// How cluster-scoped consumer kinds are isolated.
    pub isolation: Isolation,
    /// The user as which this service speaks to the API server, as RBAC names it.
    pub user: String,
}

/// Why a contract cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ContractError {
    /// The API server refused or did not answer.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// Something of that name exists and is not this contract's.
    #[error("{0}")]
    Foreign(String),
    /// The provider has revoked it.
    #[error("the provider has revoked it{}, and only the provider can restore it", in_brackets(.0))]
    Revoked(String),
    /// The token controller did not answer in time.
    #[error(
        "the provider's API server has issued no token for ServiceAccount {0}/kube-binder within 10 s; is its token controller running?"
    )]
    NoToken(String),
    /// It belongs to another cluster.
    #[error("{0}")]
    Elsewhere(String),
}

/// An existing contract.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// Its namespace.
    pub namespace: String,
}

/// A contract with its credential.
#[derive(Clone)]
pub struct Contract {
    /// Its namespace.
    pub namespace: String,
    /// The consumer's kubeconfig. Never logged.
    pub kubeconfig: Vec<u8>,
}

/// To whom the contract belongs whose credential a cluster holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// There is none, or it is not this person's.
    None,
    /// It is pinned to the cluster that asks.
    Here,
    /// It is pinned to another cluster; the question to ask.
    Elsewhere {
        /// For people.
        question: String,
    },
}

/// A remark in brackets; nothing if there is none.
pub(crate) fn in_brackets(remark: &str) -> String {
    if remark.trim().is_empty() { String::new() } else { format!(" ({remark})") }
}

fn annotation<'a>(object: &'a Value, name: &str) -> &'a str {
    object["metadata"]["annotations"][name].as_str().unwrap_or_default()
}

/// The consumer identity that the contract namespace is for.
fn identity(namespace: &Value) -> &str {
    match annotation(namespace, ANNOTATION_IDENTITY) {
        "" => annotation(namespace, ANNOTATION_LEGACY_IDENTITY),
        identity => identity,
    }
}

/// Whether the contract namespace is for this consumer identity.
fn is_for(namespace: &Value, consumer: &str) -> bool {
    !consumer.is_empty() && identity(namespace) == consumer
}

/// Another cluster than this consumer's that the contract is pinned to.
fn pinned_elsewhere<'a>(binding: &'a Value, person: &Person, consumer: &str) -> Option<&'a str> {
    let uid = cluster_uid(person, consumer)?;
    binding["spec"]["consumerClusterUID"].as_str().filter(|pinned| !pinned.is_empty() && *pinned != uid)
}

/// Refuses a contract that the provider has revoked; it need not have said why.
fn open(binding: &Value) -> Result<(), ContractError> {
    match binding["metadata"]["annotations"][ANNOTATION_REVOKED].as_str() {
        Some(why) => Err(ContractError::Revoked(why.to_owned())),
        None => Ok(()),
    }
}

/// Whether the credential may be handed out for this consumer.
fn admit(binding: &Value, person: &Person, namespace: &str, consumer: &str) -> Result<(), ContractError> {
    open(binding)?;
    match pinned_elsewhere(binding, person, consumer) {
        Some(pinned) => Err(ContractError::Elsewhere(format!(
            "contract {namespace} is pinned to cluster {pinned}; the provider can move it with spec.approvedClusterUID of its ClusterBinding"
        ))),
        None => Ok(()),
    }
}

/// Whether this person may use the contract: the subject that made it, or one that the provider has added. Contracts of
/// the Go release carry no issuer.
fn belongs(namespace: &Value, person: &Person) -> bool {
    let issuer = annotation(namespace, ANNOTATION_ISSUER);
    if !issuer.is_empty() && issuer != person.issuer {
        return false;
    }
    let listed = |name: &str, wanted: &str| {
        !wanted.is_empty() && annotation(namespace, name).split(',').map(str::trim).any(|item| item == wanted)
    };
    let author = annotation(namespace, ANNOTATION_AUTHOR);
    (!author.is_empty() && author == person.subject)
        || listed(ANNOTATION_ALLOWED_SUBJECTS, &person.subject)
        || person.groups.iter().any(|group| listed(ANNOTATION_ALLOWED_GROUPS, group))
}

/// The contract of this person for that consumer cluster, if there is one.
///
/// # Errors
/// Those of the API server.
pub async fn find(api: &Api, issuing: &Issuing, person: &Person, consumer: &str) -> Result<Option<Found>, ApiError> {
    let kind = resources::namespaces();
    let name = own_name(issuing, person, consumer);
    let fits = |namespace: &Value| is_for(namespace, consumer) && belongs(namespace, person);
    let direct = api.get_opt(&kind, &ObjectKey::cluster(&name)).await?;
    let lives = |namespace: &Value| namespace["metadata"]["deletionTimestamp"].is_null();
    if direct.as_ref().is_some_and(|namespace| fits(namespace) && lives(namespace)) {
        return Ok(Some(Found { namespace: name }));
    }
    // Older ones, moved ones, and those of the Go release have other names.
    let mut names: Vec<String> = api
        .list(&kind, &ListQuery::default())
        .await?
        .iter()
        .filter(|namespace| fits(namespace) && lives(namespace))
        .filter_map(|namespace| namespace["metadata"]["name"].as_str().map(str::to_owned))
        .collect();
    names.sort();
    Ok(names.into_iter().next().map(|namespace| Found { namespace }))
}

fn own_name(issuing: &Issuing, person: &Person, consumer: &str) -> String {
    let key = contract::identity::ContractKey {
        issuer: person.issuer.clone(),
        subject: person.subject.clone(),
        cluster_uid: consumer.to_owned(),
    };
    key.namespace(&issuing.namespace_prefix)
}

/// Names of a contract's exports.
///
/// # Errors
/// Those of the API server.
pub async fn exports(api: &Api, namespace: &str) -> Result<Vec<String>, ApiError> {
    let list = api.list(&resources::of::<APIServiceExport>(), &ListQuery::namespace(namespace)).await?;
    Ok(list.iter().filter_map(|export| export["metadata"]["name"].as_str().map(str::to_owned)).collect())
}

/// To whom the contract in `namespace` belongs, seen from cluster `consumer`.
///
/// # Errors
/// Those of the API server.
pub async fn held(
    api: &Api,
    person: &Person,
    namespace: &str,
    consumer: &str,
    now: Timestamp,
) -> Result<Claim, ApiError> {
    if namespace.is_empty() {
        return Ok(Claim::None);
    }
    let Some(object) = api.get_opt(&resources::namespaces(), &ObjectKey::cluster(namespace)).await? else {
        return Ok(Claim::None);
    };
    if !belongs(&object, person) {
        return Ok(Claim::None);
    }
    let key = ObjectKey::new(namespace, CLUSTER_BINDING);
    let binding = api.get_opt(&resources::of::<ClusterBinding>(), &key).await?.unwrap_or_default();
    let pinned = pinned_elsewhere(&binding, person, consumer);
    let cluster = match (is_for(&object, consumer), pinned) {
        (true, None) => return Ok(Claim::Here),
        // Half moved.
        (true, Some(pinned)) => pinned,
        (false, _) => identity(&object),
    };
    let heard = binding["status"]["lastHeartbeatTime"].as_str().and_then(|text| text.parse::<Timestamp>().ok());
    let ago = match heard {
        Some(time) => format!("last heard of {} ago", age(now.as_second().saturating_sub(time.as_second()))),
        None => "never heard of".to_owned(),
    };
    Ok(Claim::Elsewhere { question: format!("This contract belongs to cluster {cluster}, {ago}. Move it here?") })
}

/// A duration as kubectl prints ages.
fn age(seconds: i64) -> String {
    match seconds {
        ..120 => format!("{}s", seconds.max(0)),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// Makes the contract if it is missing and returns its credential. Writes nothing if everything is there.
///
/// # Errors
/// [`ContractError`].
pub async fn ensure(
    api: &Api,
    issuing: &Issuing,
    person: &Person,
    consumer: &str,
    pretty_name: &str,
) -> Result<Contract, ContractError> {
    let give_up = tokio::time::Instant::now() + GOING_PATIENCE;
    let namespace = loop {
        let Some(found) = find(api, issuing, person, consumer).await? else {
            break create_namespace(api, issuing, person, consumer).await?;
        };
        if tokio::time::Instant::now() >= give_up || !is_ending(api, &found.namespace).await? {
            break found.namespace;
        }
        tokio::time::sleep(POLL).await;
    };
    equip(api, issuing, person, &namespace, consumer, pretty_name).await
}

/// Whether the last export of a contract is going: the contract goes with it in a moment.
async fn is_ending(api: &Api, namespace: &str) -> Result<bool, ApiError> {
    let exports = api.list(&resources::of::<APIServiceExport>(), &ListQuery::namespace(namespace)).await?;
    Ok(!exports.is_empty() && exports.iter().all(|export| !export["metadata"]["deletionTimestamp"].is_null()))
}

async fn create_namespace(
    api: &Api,
    issuing: &Issuing,
    person: &Person,
    consumer: &str,
) -> Result<String, ContractError> {
    let name = own_name(issuing, person, consumer);
    let body = json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": name, "annotations": {
            ANNOTATION_IDENTITY: consumer,
            ANNOTATION_AUTHOR: person.subject,
            ANNOTATION_ISSUER: person.issuer,
        }},
    });
    let give_up = tokio::time::Instant::now() + GOING_PATIENCE;
    loop {
        match api.create(&resources::namespaces(), None, &body).await {
            Ok(_) => {
                tracing::info!(namespace = %name, issuer = %person.issuer, subject = %person.subject, consumer, "contract made");
                return Ok(name);
            }
            Err(err) if err.class == Class::AlreadyExists => {
                let there = api.get_opt(&resources::namespaces(), &ObjectKey::cluster(&name)).await?;
                // Its end is a matter of seconds: that of a bind before this one.
                let Some(there) = there else { continue };
                let ours = is_for(&there, consumer) && belongs(&there, person);
                let going = !there["metadata"]["deletionTimestamp"].is_null();
                if ours && !going {
                    return Ok(name);
                }
                if !ours || tokio::time::Instant::now() >= give_up {
                    return Err(ContractError::Foreign(format!(
                        "namespace {name} at the provider exists and is not this contract's (or is being deleted); the provider has to remove it"
                    )));
                }
                tokio::time::sleep(POLL).await;
            }
            Err(err) => return Err(err.into()),
        }
    }
}

async fn equip(
    api: &Api,
    issuing: &Issuing,
    person: &Person,
    namespace: &str,
    consumer: &str,
    pretty_name: &str,
) -> Result<Contract, ContractError> {
    // Our own rights in the namespace come first; everything after needs them.
    rights::ours_in_contract(api, &issuing.user, namespace).await?;
    let secret = ensure_cluster_binding(api, issuing, person, namespace, consumer, pretty_name).await?;
    present(api, &resources::service_accounts(), &credential::account(namespace)).await?;
    present(api, &resources::secrets(), &credential::token_secret(namespace)).await?;
    rights::grant(api, &contract::rbac::provider::contract(namespace)).await?;
    let token = credential::await_token(api, namespace, None).await?;
    // Moved or revoked meanwhile, the token that is there now is not this cluster's.
    let key = ObjectKey::new(namespace, CLUSTER_BINDING);
    let binding = api.get_opt(&resources::of::<ClusterBinding>(), &key).await?.unwrap_or_default();
    admit(&binding, person, namespace, consumer)?;
    let kubeconfig = credential::kubeconfig(issuing, namespace, &token);
    credential::store_kubeconfig(api, namespace, &secret, &kubeconfig).await?;
    Ok(Contract { namespace: namespace.to_owned(), kubeconfig: kubeconfig.into_bytes() })
}

/// Whether the consumer is a cluster, or only a person without one.
fn cluster_uid<'a>(person: &Person, consumer: &'a str) -> Option<&'a str> {
    (consumer != format!("{}/{}", person.issuer, person.subject)).then_some(consumer)
}

/// The ClusterBinding, pinned to the cluster. Returns the name of the kubeconfig Secret.
async fn ensure_cluster_binding(
    api: &Api,
    issuing: &Issuing,
    person: &Person,
    namespace: &str,
    consumer: &str,
    pretty_name: &str,
) -> Result<String, ContractError> {
    let kind = resources::of::<ClusterBinding>();
    let key = ObjectKey::new(namespace, CLUSTER_BINDING);
    let Some(there) = patiently(|| api.get_opt(&kind, &key)).await? else {
        let mut body = json!({
            "apiVersion": kind.api_version(), "kind": kind.kind,
            "metadata": {"name": CLUSTER_BINDING, "namespace": namespace, "annotations": {
                ANNOTATION_IDENTITY: consumer, ANNOTATION_AUTHOR: person.subject, ANNOTATION_ISSUER: person.issuer,
                ANNOTATION_ISSUED: ONCE,
            }},
            "spec": {
                "kubeconfigSecretRef": {"name": KUBECONFIG_SECRET, "key": KUBECONFIG_KEY},
                "providerPrettyName": issuing.pretty_name,
            },
        });
        if !pretty_name.is_empty() {
            body["metadata"]["annotations"][ANNOTATION_CLUSTER_PRETTY_NAME] = json!(pretty_name);
        }
        if let Some(uid) = cluster_uid(person, consumer) {
            body["spec"]["consumerClusterUID"] = json!(uid);
        }
        present(api, &kind, &body).await?;
        return Ok(KUBECONFIG_SECRET.to_owned());
    };
    admit(&there, person, namespace, consumer)?;
    release::issued_again(api, namespace, &there).await?;
    if let Some(uid) = cluster_uid(person, consumer)
        && there["spec"]["consumerClusterUID"] != uid
    {
        let patch = json!({"spec": {"consumerClusterUID": uid}});
        api.merge_patch(&kind, &key, Subresource::Main, &patch, MANAGER).await?;
    }
    Ok(there["spec"]["kubeconfigSecretRef"]["name"].as_str().unwrap_or(KUBECONFIG_SECRET).to_owned())
}

/// Creates the object unless it is there. Whatever is there is left alone.
async fn present(api: &Api, kind: &Resource, body: &Value) -> Result<(), ApiError> {
    let key = ObjectKey::of(body).unwrap_or_else(|| ObjectKey::cluster(""));
    if patiently(|| api.get_opt(kind, &key)).await?.is_some() {
        return Ok(());
    }
    match patiently(|| api.create(kind, key.namespace(), body)).await {
        Err(err) if err.class != Class::AlreadyExists => Err(err),
        _ => Ok(()),
    }
}

/// Rights given a moment ago may not be believed everywhere yet: a refusal is retried for a while.
pub(crate) async fn patiently<T, F: Future<Output = Result<T, ApiError>>>(call: impl Fn() -> F) -> Result<T, ApiError> {
    let give_up = tokio::time::Instant::now() + RBAC_PATIENCE;
    loop {
        match call().await {
            Err(err) if err.is_forbidden() && tokio::time::Instant::now() < give_up => tokio::time::sleep(POLL).await,
            answer => return answer,
        }
    }
}

/// Moves the contract in `namespace` to cluster `consumer` and rotates its credential: whoever held the old one is out.
/// Does nothing if it is there already.
///
/// A move that breaks off is done again by the next try, from either cluster: first comes the pin, after which no login of the
/// other cluster gets the credential; then the rotation; and last the namespace's identity, by which a login finds the
/// contract. It has moved when both say so.
///
/// # Errors
/// [`ContractError`]; a contract of somebody else is [`ContractError::Foreign`].
pub async fn move_here(
    api: &Api,
    issuing: &Issuing,
    person: &Person,
    namespace: &str,
    consumer: &str,
) -> Result<(), ContractError> {
    let kind = resources::namespaces();
    let object = api.get_opt(&kind, &ObjectKey::cluster(namespace)).await?.unwrap_or_default();
    if !belongs(&object, person) {
        return Err(ContractError::Foreign(format!("there is no contract {namespace} of this login at the provider")));
    }
    let pin = resources::of::<ClusterBinding>();
    let key = ObjectKey::new(namespace, CLUSTER_BINDING);
    let pinned = api.get_opt(&pin, &key).await?;
    let mut elsewhere = false;
    if let Some(binding) = &pinned {
        open(binding)?;
        elsewhere = pinned_elsewhere(binding, person, consumer).is_some();
    }
    if is_for(&object, consumer) && !elsewhere {
        return Ok(());
    }
    if let Some(other) = find(api, issuing, person, consumer).await?
        && other.namespace != namespace
    {
        return Err(ContractError::Foreign(format!(
            "this cluster has a contract of its own ({}); unbind that first, then move {namespace} here",
            other.namespace
        )));
    }
    let identity =
        json!({"metadata": {"annotations": {ANNOTATION_IDENTITY: consumer, ANNOTATION_ISSUER: person.issuer}}});
    // Without a ClusterBinding (the provider has taken it away) the login that follows makes one with this pin.
    if pinned.is_some() {
        let mut binding = identity.clone();
        binding["spec"] = json!({"consumerClusterUID": cluster_uid(person, consumer), "approvedClusterUID": null});
        api.merge_patch(&pin, &key, Subresource::Main, &binding, MANAGER).await?;
    }
    rights::ours_in_contract(api, &issuing.user, namespace).await?;
    rotate(api, issuing, namespace).await?;
    api.merge_patch(&kind, &ObjectKey::cluster(namespace), Subresource::Main, &identity, MANAGER).await?;
    tracing::info!(namespace, consumer, subject = %person.subject, "contract moved to another cluster, credential rotated");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn person(subject: &str, groups: &[&str]) -> Person {
        Person {
            issuer: "https://issuer".into(),
            subject: subject.into(),
            groups: groups.iter().map(|g| (*g).to_owned()).collect(),
            display: String::new(),
        }
    }

    fn namespace(annotations: Value) -> Value {
        json!({"metadata": {"name": "cluster-x", "annotations": annotations}})
    }

    #[test]
    fn a_contract_belongs_to_issuer_and_subject() {
        let ours = namespace(json!({
            ANNOTATION_IDENTITY: "uid-1", ANNOTATION_AUTHOR: "alice", ANNOTATION_ISSUER: "https://issuer",
            ANNOTATION_ALLOWED_SUBJECTS: "carol, dave", ANNOTATION_ALLOWED_GROUPS: "ops",
        }));
        assert!(belongs(&ours, &person("alice", &[])));
        assert!(!belongs(&ours, &person("bob", &[])));
        assert!(belongs(&ours, &person("dave", &[])));
        assert!(belongs(&ours, &person("bob", &["ops"])));
        let elsewhere = Person { issuer: "https://other".into(), ..person("alice", &["ops"]) };
        assert!(!belongs(&ours, &elsewhere));
        let go = namespace(json!({ANNOTATION_IDENTITY: "uid-1", ANNOTATION_AUTHOR: "alice"}));
        assert!(belongs(&go, &person("alice", &[])));
        assert!(!belongs(&namespace(json!({})), &person("", &[""])));
    }

    #[test]
    fn the_identity_is_read_in_both_spellings() {
        assert!(is_for(&namespace(json!({ANNOTATION_IDENTITY: "a"})), "a"));
        assert!(is_for(&namespace(json!({ANNOTATION_LEGACY_IDENTITY: "a"})), "a"));
        assert!(!is_for(&namespace(json!({ANNOTATION_LEGACY_IDENTITY: "a", ANNOTATION_IDENTITY: "b"})), "a"));
        assert!(!is_for(&namespace(json!({})), ""));
    }

    #[test]
    fn a_revoked_contract_is_closed_whatever_the_provider_has_said() {
        let binding = |why: Value| json!({"metadata": {"annotations": {ANNOTATION_REVOKED: why}}});
        let said = |why: &str| open(&binding(json!(why))).unwrap_err().to_string();
        assert_eq!(said("not paid"), "the provider has revoked it (not paid), and only the provider can restore it");
        assert_eq!(said(""), "the provider has revoked it, and only the provider can restore it");
        assert!(open(&binding(Value::Null)).is_ok() && open(&json!({})).is_ok());
    }

    #[test]
    fn a_pin_is_another_clusters_or_not() {
        let binding = |pin: Value| json!({"spec": {"consumerClusterUID": pin}});
        let alice = person("alice", &[]);
        assert_eq!(pinned_elsewhere(&binding(json!("uid-1")), &alice, "uid-2"), Some("uid-1"));
        for pin in [json!("uid-2"), json!(""), Value::Null] {
            assert_eq!(pinned_elsewhere(&binding(pin), &alice, "uid-2"), None);
        }
        // Who has no cluster of their own is held back by none.
        assert_eq!(pinned_elsewhere(&binding(json!("uid-1")), &alice, "https://issuer/alice"), None);
    }

    #[test]
    fn ages_are_those_of_kubectl() {
        assert_eq!([age(5), age(150), age(7_200), age(200_000)], ["5s", "2m", "2h", "2d"]);
    }
}
