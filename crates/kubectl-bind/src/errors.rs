//! What can go wrong, in sentences: each names the object, the side and what mends it.

use kube_client::{ApiError, Class};

/// The end of a command that did not work. `Display` is what the user reads.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    #[error(
        "{text:?} is not a URL to bind (and no command): {reason}. A provider's URL looks like https://acmedb.example/exports"
    )]
    NotUrl { text: String, reason: String },
    #[error(
        "nothing to bind: give the provider's URL, as in kubectl bind https://acmedb.example/exports (or see kubectl bind --help)"
    )]
    NoUrl,
    #[error("the provider's server {url} cannot be reached: {reason}. Check the URL and the network")]
    ServerUnreachable { url: String, reason: String },
    #[error("the provider's server {url} cannot be trusted: {reason}. Pass its CA with --server-ca-file")]
    ServerTls { url: String, reason: String },
    #[error(
        "the provider's server {url} does not speak TLS (it answers in plain text). Should the URL start with http://?"
    )]
    ServerNoTls { url: String },
    #[error("the provider's server has nothing to bind at {url}{details}. Ask the provider for the right URL")]
    NothingThere { url: String, details: String },
    #[error("{url} is not a kube-bind server: {reason}. Ask the provider for the right URL")]
    NotKubeBind { url: String, reason: String },
    #[error("the provider's server {url} refuses: {message}{mend}")]
    Refused { url: String, message: String, mend: String },
    #[error(
        "the login at the provider did not work: {reason}. Nothing was changed in the consumer cluster; run the same command to try again"
    )]
    Login { reason: String },
    #[error(
        "no answer from the browser after {seconds} s. Nothing was changed in the consumer cluster; run the same command to try again"
    )]
    LoginTimeout { seconds: u64 },
    #[error("there is no login for {server}: run kubectl bind login {server}")]
    NoLogin { server: String },
    #[error("no provider was named and there is no login: run kubectl bind login <url>")]
    NoServer,
    #[error("the file of logins {path}: {reason}. Mend or remove it")]
    ConfigFile { path: String, reason: String },

    #[error("no kubeconfig for the {side} cluster: {reason}. Set KUBECONFIG or pass --kubeconfig")]
    NoKubeconfig { side: &'static str, reason: String },
    #[error(
        "the {side} cluster {server} cannot be reached: {reason}. Check that it runs and that the kubeconfig is right"
    )]
    Unreachable { side: String, server: String, reason: String },
    #[error("the {side} cluster {server} does not accept the credential of the kubeconfig: {reason}. {mend}")]
    Unauthorized { side: String, server: String, reason: String, mend: &'static str },
    #[error(
        "you lack permissions in the consumer cluster {server}: {missing}. Ask its administrator for them, or to run this command"
    )]
    MissingPermissions { server: String, missing: String },
    #[error("{side} cluster: you may not {verb} {target}: {message}. Ask the administrator of that cluster")]
    Forbidden { side: String, verb: &'static str, target: String, message: String },
    #[error(
        "{side} cluster: cannot {verb} {target}: {message}. The API server does not serve at the moment; run the same command again when it does"
    )]
    NotServing { side: String, verb: &'static str, target: String, message: String },
    #[error(
        "the {side} cluster {server} cannot be trusted: {reason}. Its certificate is not from the CA in the kubeconfig; if the cluster has a new one, get a new kubeconfig"
    )]
    Untrusted { side: String, server: String, reason: String },
    #[error("{side} cluster: cannot {verb} {target}: {message}")]
    Api { side: String, verb: &'static str, target: String, message: String },

    #[error(
        "the kubeconfig for the provider ({origin}) is not usable: {reason}. Get a new one with kubectl bind kubeconfig <url>"
    )]
    RemoteKubeconfig { origin: String, reason: String },
    #[error(
        "the kubeconfig for the provider ({origin}) names no namespace in its current context. Pass --remote-namespace, or get a new one with kubectl bind kubeconfig <url>"
    )]
    NoRemoteNamespace { origin: String },
    #[error(
        "no kubeconfig for the provider: pass --remote-kubeconfig <file>, or --remote-kubeconfig-namespace and --remote-kubeconfig-name of a Secret"
    )]
    NoRemoteKubeconfig,
    #[error("nothing to bind: pass -f <file>, -f -, an https URL, or --template-name")]
    NoManifest,
    #[error("the manifest {origin}: {reason}")]
    Manifest { origin: String, reason: String },

    #[error("nothing was bound: {count} permission claims were not accepted. Accept them with --accept-claims{how}")]
    ClaimsNotAccepted { count: usize, how: &'static str },
    #[error("nothing was bound: the permission claims were not accepted")]
    ClaimsDeclined,

    #[error(
        "consumer cluster: the API {api} is bound already, by binding {binding} ({url}). Take that back first: kubectl bind unbind {binding}"
    )]
    AlreadyBound { api: String, binding: String, url: String },
    #[error(
        "consumer cluster: there is a binding {binding} already, to another provider ({url}). Choose another name with --name"
    )]
    NameTaken { binding: String, url: String },
    #[error("consumer cluster: binding {binding} is being deleted. Wait for that and run the same command again")]
    BindingTerminating { binding: String },
    #[error(
        "consumer cluster: there is a CustomResourceDefinition {crd} that does not belong to a binding, so the API cannot be bound. Remove it (its objects go with it) or bind in another cluster"
    )]
    ForeignCrd { crd: String },
    #[error(
        "consumer cluster: CustomResourceDefinition {crd} and its objects were left behind by the binding {binding}, which is gone. Bind it again under that name (--name {binding}), or remove the CustomResourceDefinition (its objects go with it)"
    )]
    OrphanedCrd { crd: String, binding: String },
    #[error(
        "consumer cluster: Secret {namespace}/{name} exists and holds something else. Remove it or choose another name with --name"
    )]
    ForeignSecret { namespace: String, name: String },
    #[error("the name {name:?} cannot be used for a binding: {reason}")]
    BadName { name: String, reason: String },
    #[error("provider: the request {name} failed: {message}")]
    RequestFailed { name: String, message: String },
    #[error(
        "provider: the request {name} was not answered within {seconds} s. Ask the provider whether its backend runs"
    )]
    RequestUnanswered { name: String, seconds: u64 },
    #[error(
        "provider: the request {name} was not granted within {seconds} s: {why}. Run the same command again in a while"
    )]
    RequestWaits { name: String, seconds: u64, why: String },
    #[error("provider: there is a request {name} already, for something else. Choose another name with --name")]
    RequestTaken { name: String },
    #[error(
        "no agent answers in the consumer cluster {server} (Lease kube-bind/kube-bind){waited}. {how}\nand then the same command again"
    )]
    NoAgent { server: String, waited: String, how: String },
    #[error(
        "the consumer cluster {server} is too old: its API server ({version}) has no CustomResourceDefinitions of apiextensions.k8s.io/v1. Kubernetes 1.16 is the oldest that can be bound to"
    )]
    ServerTooOld { server: String, version: String },
    #[error(
        "consumer cluster: {object} is being deleted, and the agent cannot be installed before it is gone. Wait until it is ({look}), then run the same command again"
    )]
    InstallationTerminating { object: String, look: String },
    #[error(
        "consumer cluster: the agent's installation is of version {newer}, newer than this command ({ours}), and not complete: {missing} is missing. Use kubectl bind of version {newer} or later"
    )]
    NewerIncomplete { newer: String, ours: String, missing: String },
    #[error(
        "consumer cluster: {object} exists and binds another role, which cannot be changed. Remove it ({delete}) and run the same command again"
    )]
    ForeignRoleBinding { object: String, delete: String },
    #[error(
        "consumer cluster: there is no ServiceAccount kube-bind/konnector, so there is no kubeconfig for it. Make it first: kubectl bind konnector --without-deployment | kubectl apply --server-side -f -"
    )]
    NoAccount,
    #[error(
        "consumer cluster: Secret {namespace}/{name} got no token within {seconds} s. Does the cluster's token controller (kube-controller-manager) run?"
    )]
    NoToken { namespace: String, name: String, seconds: u64 },
    #[error("consumer cluster: binding {binding} did not get connected within {seconds} s{reason}")]
    NotConnected { binding: String, seconds: u64, reason: String },
    #[error("consumer cluster: binding {binding} cannot be connected: {reason}")]
    BindingFailed { binding: String, reason: String },
    #[error("consumer cluster: {crd} did not get established within {seconds} s")]
    NotEstablished { crd: String, seconds: u64 },
    #[error(
        "consumer cluster: namespace {namespace} is being deleted and does not go. See what it waits for: kubectl get namespace {namespace} -o yaml"
    )]
    NamespaceTerminating { namespace: String },
    #[error(
        "provider cluster: contract {contract}, which the kubeconfig opens, has ended and is being deleted. Bind again with the provider's URL, or get a new kubeconfig with kubectl bind kubeconfig <url>"
    )]
    ContractEnding { contract: String },
    #[error("interrupted; what this command had made was taken back")]
    Interrupted,

    #[error("consumer cluster: there is no binding {name}{others}")]
    NoBinding { name: String, others: String },
    #[error(
        "consumer cluster: binding {name} still has {counts}. Delete them with it (kubectl bind unbind {name} --delete-objects) or leave them behind (--orphan)"
    )]
    ObjectsLeft { name: String, counts: String },
    #[error(
        "consumer cluster: binding {name} is gone already, so its {counts} can no longer be deleted on both sides. Bind again under that name and then unbind with --delete-objects, or delete them here with kubectl"
    )]
    ObjectsUnbound { name: String, counts: String },
    #[error(
        "binding {name} is not gone after {seconds} s: {waiting}. It goes on; look again with kubectl bind status {name}"
    )]
    UnbindSlow { name: String, seconds: u64, waiting: String },
    #[error("binding {binding} has no claim number {number}; it has {count}")]
    NoClaim { binding: String, number: usize, count: usize },
    #[error("provider cluster: {0}")]
    Provider(String),
    #[error("standard output: {0}")]
    Output(#[from] std::io::Error),
    #[error("{error}\nBesides, what this command had made could not all be taken back: {left}")]
    Leftovers { error: Box<CliError>, left: String },
}

impl CliError {
    /// A failed request as the user has to read it; `server` is the API server's URL.
    pub(crate) fn from_api(error: ApiError, server: &str) -> Self {
        let untrusted = error.is_untrusted();
        let ApiError { side, verb, target, class, message, .. } = error;
        match class {
            Class::Unreachable if untrusted => Self::Untrusted { side, server: server.to_owned(), reason: message },
            Class::Throttled | Class::Server => Self::NotServing { side, verb, target, message },
            Class::Unreachable => Self::Unreachable { side, server: server.to_owned(), reason: message },
            Class::Unauthorized => {
                let mend = if side == "provider" {
                    "It may have been revoked; bind again or get a new one with kubectl bind kubeconfig <url>"
                } else {
                    "Log in to the cluster again"
                };
                Self::Unauthorized { side, server: server.to_owned(), reason: message, mend }
            }
            Class::Forbidden => Self::Forbidden { side, verb, target, message },
            _ => Self::Api { side, verb, target, message },
        }
    }
}
