//! Who is asking, and may he?
//!
//! ```text
//!  bearer token ─┐                       Roles, bindings (ObjectReader)
//!  certificate ──┴► Auth::authenticate ─► UserInfo ─► Auth::authorize ─► Decision ─► the pipeline
//!                     │ refuses what belongs          │                              │
//!                     │ to another logical cluster    └► reviews (review)            └► escalation::admit
//! ```
//!
//! In: credentials and [`Attributes`] from the HTTP front. Out: a [`UserInfo`], a [`Decision`], or the error that
//! kube-apiserver would give. Nothing here does IO but reading and writing the signing key at start; objects come
//! through [`ObjectReader`], the time as an argument.
//!
//! - [`access`]: the record of decisions, for those who want one.
//! - [`signing`]: the key that signs tokens, kept in the data folder.
//! - [`service_account`]: tokens of ServiceAccounts, made and checked against the objects they are bound to.
//! - [`certificate`]: client certificates, which name their logical cluster.
//! - [`rbac`]: the authorizer, what everyone has from the start, and escalation prevention.
//! - [`review`]: SubjectAccessReview and its relatives, TokenReview, TokenRequest.

pub mod access;
pub mod certificate;
pub mod rbac;
pub mod review;
pub mod service_account;
pub mod signing;

#[cfg(test)]
pub(crate) mod testing;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use apimachinery::status::StatusError;
use jiff::Timestamp;
use parking_lot::RwLock;
use serde_json::Value;

pub use access::{Access, AccessLog, Purpose};
pub use rbac::escalation::RbacWrite;
pub use rbac::{Decision, Rbac, forbidden};
pub use signing::{SigningError, SigningKey};

use crate::request::{ALL_CLUSTERS, Attributes, ObjectReader, UserInfo};

/// What every ServiceAccount's user name starts with.
pub const SERVICE_ACCOUNT_PREFIX: &str = "system:serviceaccount:";
/// The group of everyone with a valid credential.
pub const AUTHENTICATED: &str = "system:authenticated";
/// The group of requests without any credential.
pub const UNAUTHENTICATED: &str = "system:unauthenticated";
/// The user of requests without any credential.
pub const ANONYMOUS: &str = "system:anonymous";

/// Paths that anybody may GET, whatever the roles say.
const ALWAYS_ALLOWED: [&str; 3] = ["/healthz", "/livez", "/readyz"];

/// A fixed bearer token.
#[derive(Clone)]
pub struct StaticToken {
    /// The secret.
    pub token: String,
    /// Logical cluster it is valid in; [`ALL_CLUSTERS`] for every one.
    pub cluster: String,
    /// User name.
    pub username: String,
    /// UID, may be empty.
    pub uid: String,
    /// Groups; `system:authenticated` is added.
    pub groups: Vec<String>,
}

impl std::fmt::Debug for StaticToken {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("StaticToken").field("cluster", &self.cluster).field("username", &self.username).finish()
    }
}

/// What a request brought along.
#[derive(Clone, Copy, Default)]
pub struct Credentials<'a> {
    /// The token behind `Authorization: Bearer`.
    pub bearer: Option<&'a str>,
    /// The client certificate (DER) that TLS has verified against our CA.
    pub certificate: Option<&'a [u8]>,
}

/// Authentication and authorisation for all logical clusters.
pub struct Auth {
    key: SigningKey,
    rbac: Rbac,
    statics: RwLock<HashMap<[u8; 32], UserInfo>>,
    verified: service_account::VerifiedTokens,
}

impl Auth {
    /// Authentication with this signing key.
    #[must_use]
    pub fn new(key: SigningKey) -> Self {
        Self { key, rbac: Rbac::default(), statics: RwLock::default(), verified: Default::default() }
    }

    /// Authentication with the key in a data folder, which is made if it is not there (`None`: a key for this run).
    ///
    /// # Errors
    /// The key cannot be made, read or written.
    pub fn open(data_dir: Option<&Path>) -> Result<Self, SigningError> {
        let key = match data_dir {
            Some(dir) => SigningKey::load_or_create(&dir.join("service-account.key"))?,
            None => SigningKey::generate()?,
        };
        Ok(Self::new(key))
    }

    /// Tells somebody of every decision from now on.
    pub fn observe(&mut self, log: Option<Arc<dyn AccessLog>>) {
        self.rbac.observer = access::Observer(log);
    }

    /// Accepts a fixed token from now on.
    pub fn add_static_token(&self, token: StaticToken) {
        let mut groups = token.groups;
        if !groups.iter().any(|group| group == AUTHENTICATED) {
            groups.push(AUTHENTICATED.into());
        }
        let user = UserInfo {
            username: token.username,
            uid: token.uid,
            groups,
            cluster: Some(token.cluster),
            ..UserInfo::default()
        };
        self.statics.write().insert(signing::digest(token.token.as_bytes()), user);
    }

    /// The administrator's token of a logical cluster, or of all with [`ALL_CLUSTERS`]. It follows from the signing
    /// key, so it stays the same as long as the data folder does.
    #[must_use]
    pub fn admin_token(&self, cluster: &str) -> String {
        self.key.derived_token(cluster)
    }

    /// The signing key, for token controllers.
    #[must_use]
    pub fn signing_key(&self) -> &SigningKey {
        &self.key
    }

    /// The authorizer.
    #[must_use]
    pub fn rbac(&self) -> &Rbac {
        &self.rbac
    }

    /// Finds out who is asking, in the logical cluster of the URL. No credential at all is `system:anonymous`.
    ///
    /// # Errors
    /// 401 for a credential that is unknown, expired, revoked or of another logical cluster.
    pub fn authenticate(
        &self,
        reader: &dyn ObjectReader,
        cluster: &str,
        credentials: &Credentials<'_>,
        now: Timestamp,
    ) -> Result<UserInfo, StatusError> {
        if credentials.bearer.is_none() && credentials.certificate.is_none() {
            return Ok(UserInfo {
                username: ANONYMOUS.into(),
                groups: vec![UNAUTHENTICATED.into()],
                cluster: Some(cluster.to_owned()),
                ..UserInfo::default()
            });
        }
        let by_certificate = credentials.certificate.and_then(|der| certificate::identity(der).ok());
        if let Some(user) = by_certificate.filter(|user| valid_in(user, cluster)) {
            return Ok(user);
        }
        credentials
            .bearer
            .and_then(|token| self.token_user(reader, cluster, token, &[], now))
            .filter(|user| valid_in(user, cluster))
            .ok_or_else(StatusError::unauthorized)
    }

    /// The user behind a token that is valid in `cluster`; `audiences` are the ones it must be for (empty: the API
    /// server's own).
    fn token_user(
        &self,
        reader: &dyn ObjectReader,
        cluster: &str,
        token: &str,
        audiences: &[String],
        now: Timestamp,
    ) -> Option<UserInfo> {
        if let Some(user) = self.statics.read().get(&signing::digest(token.as_bytes())) {
            return Some(user.clone());
        }
        for scope in [cluster, ALL_CLUSTERS] {
            if self.key.is_derived_token(scope, token) {
                return Some(UserInfo {
                    username: "kubernetes-admin".into(),
                    groups: vec![rbac::MASTERS.into(), AUTHENTICATED.into()],
                    cluster: Some(scope.to_owned()),
                    ..UserInfo::default()
                });
            }
        }
        self.verified.user(&self.key, reader, cluster, token, audiences, now)
    }

    /// Decides about a request. The health paths are open to all.
    #[must_use]
    pub fn authorize(&self, reader: &dyn ObjectReader, user: &UserInfo, attributes: &Attributes) -> Decision {
        if !attributes.is_resource() && attributes.verb == "get" {
            let path = attributes.path.trim_end_matches('/');
            let open = |root: &str| path == root || path.strip_prefix(root).is_some_and(|rest| rest.starts_with('/'));
            if ALWAYS_ALLOWED.iter().any(|root| open(root)) {
                return Decision { allowed: true, reason: String::new() };
            }
        }
        if !valid_in(user, &attributes.cluster) {
            return Decision { allowed: false, reason: "the credential is of another logical cluster".into() };
        }
        self.rbac.authorize(reader, user, attributes)
    }

    /// [`Auth::authorize`] with the error that a refusal is answered with.
    ///
    /// # Errors
    /// 403 in kube-apiserver's words.
    pub fn require(
        &self,
        reader: &dyn ObjectReader,
        user: &UserInfo,
        attributes: &Attributes,
    ) -> Result<(), StatusError> {
        let decision = self.authorize(reader, user, attributes);
        self.rbac.observer.request(user, attributes, decision.allowed);
        if decision.allowed { Ok(()) } else { Err(forbidden(user, attributes, &decision.reason)) }
    }

    /// Checks a write of a Role, ClusterRole or binding; writes of anything else pass. To be called by the pipeline
    /// for create, update and patch, with the object as it would be stored.
    ///
    /// # Errors
    /// See [`rbac::escalation::admit`].
    pub fn admit(&self, reader: &dyn ObjectReader, write: &RbacWrite<'_>) -> Result<(), StatusError> {
        rbac::escalation::admit(&self.rbac, reader, write)
    }
}

/// Fills in what the API group's own defaults are; to be called by the pipeline before validation.
pub fn default(group: &str, resource: &str, object: &mut Value) {
    rbac::escalation::default(group, resource, object);
}

/// Whether a credential counts in a logical cluster. Callers inside the process have no cluster and count everywhere.
fn valid_in(user: &UserInfo, cluster: &str) -> bool {
    user.cluster.as_deref().is_none_or(|own| own == cluster || own == ALL_CLUSTERS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::testing::{Objects, now};

    fn bearer(token: &str) -> Credentials<'_> {
        Credentials { bearer: Some(token), certificate: None }
    }

    #[test]
    fn the_admin_token_of_one_cluster_is_nothing_in_another() {
        let auth = Auth::open(None).unwrap();
        let objects = Objects::default();
        let token = auth.admin_token("a");
        let user = auth.authenticate(&objects, "a", &bearer(&token), now()).unwrap();
        assert!(user.groups.contains(&rbac::MASTERS.to_owned()));
        assert_eq!(auth.authenticate(&objects, "b", &bearer(&token), now()).unwrap_err().code, 401);
        assert_eq!(auth.authenticate(&objects, ALL_CLUSTERS, &bearer(&token), now()).unwrap_err().code, 401);
        let root = auth.admin_token(ALL_CLUSTERS);
        for cluster in ["a", "b", ALL_CLUSTERS] {
            auth.authenticate(&objects, cluster, &bearer(&root), now()).unwrap();
        }
    }

    #[test]
    fn masters_of_another_cluster_are_refused_even_after_authentication() {
        let auth = Auth::open(None).unwrap();
        let user = UserInfo { groups: vec![rbac::MASTERS.into()], cluster: Some("a".into()), ..UserInfo::default() };
        let attributes = |cluster: &str| Attributes {
            cluster: cluster.into(),
            verb: "get".into(),
            resource: "secrets".into(),
            ..Attributes::default()
        };
        let objects = Objects::default();
        assert!(auth.authorize(&objects, &user, &attributes("a")).allowed);
        assert!(!auth.authorize(&objects, &user, &attributes("b")).allowed);
    }

    #[test]
    fn static_tokens_and_nonsense() {
        let auth = Auth::open(None).unwrap();
        auth.add_static_token(StaticToken {
            token: "t0ken".into(),
            cluster: "a".into(),
            username: "jane".into(),
            uid: String::new(),
            groups: vec!["devs".into()],
        });
        let objects = Objects::default();
        let user = auth.authenticate(&objects, "a", &bearer("t0ken"), now()).unwrap();
        assert_eq!((user.username.as_str(), user.groups.len()), ("jane", 2));
        for (cluster, token) in [("b", "t0ken"), ("a", "other"), ("a", ""), ("a", "a.b.c")] {
            assert_eq!(auth.authenticate(&objects, cluster, &bearer(token), now()).unwrap_err().code, 401);
        }
    }

    #[test]
    fn nobody_may_look_at_the_health_only() {
        let auth = Auth::open(None).unwrap();
        let objects = Objects::default();
        let nobody = auth.authenticate(&objects, "a", &Credentials::default(), now()).unwrap();
        assert_eq!(nobody.username, ANONYMOUS);
        let get = |path: &str| Attributes {
            cluster: "a".into(),
            verb: "get".into(),
            path: path.into(),
            ..Attributes::default()
        };
        assert!(auth.authorize(&objects, &nobody, &get("/readyz/etcd")).allowed);
        assert!(!auth.authorize(&objects, &nobody, &get("/readyzz")).allowed);
        assert_eq!(auth.require(&objects, &nobody, &get("/apis")).unwrap_err().code, 403);
    }
}
