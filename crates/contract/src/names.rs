//! Names across the two sides: contract namespaces, mapped namespaces, and how an object's key translates.
//!
//! In: an identity, a consumer's or a provider's key, and the map of namespaces that the backend has published. Out: the
//! key on the other side. The agent translates every event with it; the backend names namespaces with it. Rules:
//! reference §1.5, §4.3, §5.6.

use std::collections::BTreeMap;

use kube_bind_api::{Isolation, Scope};
use sha2::{Digest, Sha224, Sha256};

/// Longest name of a namespace (a DNS label).
pub const MAX_NAMESPACE: usize = 63;
/// Longest name of an object (a DNS subdomain).
pub const MAX_NAME: usize = 253;

/// A name cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The prefixed name would be too long.
    #[error(
        "at the provider this object would be named {name:?}, which has {length} characters where {MAX_NAME} are allowed; \
         nothing of it is synced: make it anew under a name of at most {allowed} characters"
    )]
    TooLong {
        /// Prefixed name.
        name: String,
        /// Its length.
        length: usize,
        /// What the consumer's name may have.
        allowed: usize,
    },
    /// The backend has not published where this consumer namespace is mapped to (yet).
    #[error("the consumer's namespace {namespace:?} is not mapped to a namespace of the provider yet")]
    NotMapped {
        /// Consumer namespace.
        namespace: String,
    },
    /// A namespaced kind without a namespace, or the other way round.
    #[error("the consumer's object {key} does not fit the scope of its kind, which is {scope}")]
    WrongScope {
        /// The key.
        key: ConsumerKey,
        /// Scope of the kind at the consumer.
        scope: &'static str,
    },
}

/// Name of the namespace that holds a contract: prefix and, in lower-case base 36, the first eight bytes of the SHA-224
/// of the identity. Old ones are found again by it; otherwise look them up by annotation first.
pub fn contract_namespace(prefix: &str, identity: &str) -> String {
    let digest = Sha224::digest(identity.as_bytes());
    let number = digest.iter().take(8).fold(0u64, |number, byte| number << 8 | u64::from(*byte));
    format!("{prefix}{}", base36(number))
}

/// Name of the provider namespace for a consumer namespace: with isolation `None` the same, else
/// `<contract>-<namespace>`, shortened with a hash when it is too long for a namespace.
pub fn mapped_namespace(contract: &str, isolation: Isolation, consumer_namespace: &str) -> String {
    match isolation {
        Isolation::None => consumer_namespace.to_owned(),
        Isolation::Prefixed | Isolation::Namespaced => {
            shorten(&format!("{contract}-{consumer_namespace}"), MAX_NAMESPACE)
        }
    }
}

/// Name of a cluster-scoped provider object with isolation `Prefixed`. It must translate back, so it is never shortened.
pub fn prefixed_name(contract: &str, name: &str) -> Result<String, NameError> {
    let prefixed = format!("{contract}-{name}");
    if prefixed.len() > MAX_NAME {
        let allowed = MAX_NAME.saturating_sub(contract.len() + 1);
        return Err(NameError::TooLong { length: prefixed.len(), name: prefixed, allowed });
    }
    Ok(prefixed)
}

/// Cuts a name to `limit` characters; what is cut off lives on in ten hex digits at the end.
pub fn shorten(name: &str, limit: usize) -> String {
    const HASH: usize = 10;
    if name.len() <= limit {
        return name.to_owned();
    }
    let digest = Sha256::digest(name.as_bytes());
    let hash: String = digest.iter().take(HASH / 2).map(|byte| format!("{byte:02x}")).collect();
    let mut cut = limit.saturating_sub(HASH + 1);
    while !name.is_char_boundary(cut) {
        cut -= 1;
    }
    let head = name[..cut].trim_end_matches(['-', '.']);
    if head.is_empty() { hash } else { format!("{head}-{hash}") }
}

fn base36(mut number: u64) -> String {
    let mut digits = Vec::new();
    loop {
        let digit = (number % 36) as u32;
        digits.push(char::from_digit(digit, 36).unwrap_or('0'));
        number /= 36;
        if number == 0 {
            return digits.into_iter().rev().collect();
        }
    }
}

macro_rules! key {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name {
            /// Namespace; none for cluster-scoped objects.
            pub namespace: Option<String>,
            /// Name.
            pub name: String,
        }

        impl $name {
            /// A key; an empty namespace is none.
            pub fn new(namespace: Option<&str>, name: impl Into<String>) -> Self {
                Self { namespace: namespace.filter(|ns| !ns.is_empty()).map(str::to_owned), name: name.into() }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                match &self.namespace {
                    Some(namespace) => write!(f, "{namespace}/{}", self.name),
                    None => f.write_str(&self.name),
                }
            }
        }
    };
}

key! {
    /// An object's key at the consumer.
    ConsumerKey
}
key! {
    /// An object's key at the provider.
    ProviderKey
}

/// Which consumer namespace is which provider namespace, both ways, for one contract. Filled from
/// `APIServiceNamespace.status.namespace`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamespaceMap {
    to_provider: BTreeMap<String, String>,
    to_consumer: BTreeMap<String, String>,
}

impl NamespaceMap {
    /// An empty map.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts a pair in, replacing what either namespace was mapped to. Says whether anything changed.
    pub fn insert(&mut self, consumer: &str, provider: &str) -> bool {
        if self.to_provider.get(consumer).is_some_and(|old| old == provider) {
            return false;
        }
        self.remove(consumer);
        if let Some(old) = self.to_consumer.insert(provider.to_owned(), consumer.to_owned()) {
            self.to_provider.remove(&old);
        }
        self.to_provider.insert(consumer.to_owned(), provider.to_owned());
        true
    }

    /// Takes a consumer namespace out; gives what it was mapped to.
    pub fn remove(&mut self, consumer: &str) -> Option<String> {
        let provider = self.to_provider.remove(consumer)?;
        self.to_consumer.remove(&provider);
        Some(provider)
    }

    /// The provider's namespace.
    pub fn provider(&self, consumer: &str) -> Option<&str> {
        self.to_provider.get(consumer).map(String::as_str)
    }

    /// The consumer's namespace.
    pub fn consumer(&self, provider: &str) -> Option<&str> {
        self.to_consumer.get(provider).map(String::as_str)
    }

    /// All pairs, consumer first.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.to_provider.iter().map(|(consumer, provider)| (consumer.as_str(), provider.as_str()))
    }
}

impl<C: AsRef<str>, P: AsRef<str>> FromIterator<(C, P)> for NamespaceMap {
    fn from_iter<I: IntoIterator<Item = (C, P)>>(pairs: I) -> Self {
        let mut map = Self::new();
        for (consumer, provider) in pairs {
            map.insert(consumer.as_ref(), provider.as_ref());
        }
        map
    }
}

/// How the objects of one kind are kept apart (reference §4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Strategy {
    /// Namespaced on both sides; the namespace is mapped.
    ServiceNamespaced,
    /// Cluster-scoped on both sides; the name is prefixed.
    Prefixed,
    /// Cluster-scoped at the consumer, in the contract namespace at the provider.
    Namespaced,
    /// Cluster-scoped on both sides under the same name.
    None,
}

impl Strategy {
    /// The strategy of a kind: `scope` is the one the consumer sees (`BoundSchema.spec.scope`).
    pub fn of(scope: Scope, isolation: Isolation) -> Self {
        match (scope, isolation) {
            (Scope::Namespaced, _) => Strategy::ServiceNamespaced,
            (Scope::Cluster, Isolation::Prefixed) => Strategy::Prefixed,
            (Scope::Cluster, Isolation::Namespaced) => Strategy::Namespaced,
            (Scope::Cluster, Isolation::None) => Strategy::None,
        }
    }

    /// Scope of the kind at the consumer.
    pub fn consumer_scope(self) -> Scope {
        if self == Strategy::ServiceNamespaced { Scope::Namespaced } else { Scope::Cluster }
    }

    /// Scope of the kind at the provider.
    pub fn provider_scope(self) -> Scope {
        match self {
            Strategy::ServiceNamespaced | Strategy::Namespaced => Scope::Namespaced,
            Strategy::Prefixed | Strategy::None => Scope::Cluster,
        }
    }
}

/// Translates keys of one kind of one contract.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    strategy: Strategy,
    contract_namespace: String,
}

impl Mapping {
    /// For a kind with this strategy in this contract.
    pub fn new(strategy: Strategy, contract_namespace: impl Into<String>) -> Self {
        Self { strategy, contract_namespace: contract_namespace.into() }
    }

    /// How objects are kept apart.
    pub fn strategy(&self) -> Strategy {
        self.strategy
    }

    /// The contract namespace.
    pub fn contract_namespace(&self) -> &str {
        &self.contract_namespace
    }

    /// The provider's key of a consumer's object.
    ///
    /// # Errors
    /// [`NameError::NotMapped`] until the backend has published the namespace, [`NameError::TooLong`] for a name that
    /// cannot carry the prefix, [`NameError::WrongScope`] for a key that does not fit the kind.
    pub fn to_provider(&self, key: &ConsumerKey, namespaces: &NamespaceMap) -> Result<ProviderKey, NameError> {
        let scope = self.strategy.consumer_scope();
        let fits = key.namespace.is_some() == (scope == Scope::Namespaced);
        if !fits {
            return Err(NameError::WrongScope { key: key.clone(), scope: scope.as_str() });
        }
        match (self.strategy, &key.namespace) {
            (Strategy::ServiceNamespaced, Some(namespace)) => match namespaces.provider(namespace) {
                Some(mapped) => Ok(ProviderKey::new(Some(mapped), key.name.clone())),
                None => Err(NameError::NotMapped { namespace: namespace.clone() }),
            },
            (Strategy::Prefixed, _) => {
                prefixed_name(&self.contract_namespace, &key.name).map(|name| ProviderKey::new(None, name))
            }
            (Strategy::Namespaced, _) => Ok(ProviderKey::new(Some(&self.contract_namespace), key.name.clone())),
            _ => Ok(ProviderKey::new(None, key.name.clone())),
        }
    }

    /// The consumer's key of a provider's object, or none if the object is not of this contract.
    pub fn to_consumer(&self, key: &ProviderKey, namespaces: &NamespaceMap) -> Option<ConsumerKey> {
        match (self.strategy, &key.namespace) {
            (Strategy::ServiceNamespaced, Some(namespace)) => {
                namespaces.consumer(namespace).map(|consumer| ConsumerKey::new(Some(consumer), key.name.clone()))
            }
            (Strategy::Prefixed, None) => {
                let name = key.name.strip_prefix(&self.contract_namespace)?.strip_prefix('-')?;
                (!name.is_empty()).then(|| ConsumerKey::new(None, name))
            }
            (Strategy::Namespaced, Some(namespace)) => {
                (*namespace == self.contract_namespace).then(|| ConsumerKey::new(None, key.name.clone()))
            }
            (Strategy::None, None) => Some(ConsumerKey::new(None, key.name.clone())),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Strategy, *};
    use proptest::prelude::{prop_assert, prop_assert_eq, proptest};
    use rstest::rstest;

    #[rstest]
    #[case("d0a4de11-fcbb-437d-bf1d-be3f210b73ee", "cluster-125lree0qnwfz")]
    #[case("a", "cluster-2m2fww4dxob1r")]
    fn contract_namespaces_are_those_of_the_go_release(#[case] identity: &str, #[case] name: &str) {
        assert_eq!(contract_namespace("cluster-", identity), name);
    }

    #[test]
    fn mapped_namespaces() {
        assert_eq!(mapped_namespace("cluster-x", Isolation::Prefixed, "default"), "cluster-x-default");
        assert_eq!(mapped_namespace("cluster-x", Isolation::Namespaced, "default"), "cluster-x-default");
        assert_eq!(mapped_namespace("cluster-x", Isolation::None, "default"), "default");
        let (a, b) = ("a".repeat(60) + "1", "a".repeat(60) + "2");
        let (a, b) = (
            mapped_namespace("cluster-x", Isolation::Prefixed, &a),
            mapped_namespace("cluster-x", Isolation::Prefixed, &b),
        );
        assert_eq!(a.len(), MAX_NAMESPACE);
        assert_ne!(a, b);
        assert!(apimachinery::names::dns1123_label(&a).is_empty(), "{a}");
    }

    #[test]
    fn too_long_names_say_what_to_do() {
        let mapping = Mapping::new(Strategy::Prefixed, "cluster-x");
        let error = mapping.to_provider(&ConsumerKey::new(None, "n".repeat(250)), &NamespaceMap::new()).unwrap_err();
        assert!(error.to_string().contains("at most 243 characters"), "{error}");
    }

    #[test]
    fn the_map_of_namespaces_has_no_stale_way_back() {
        let mut map: NamespaceMap = [("a", "p-a"), ("b", "p-b")].into_iter().collect();
        assert!(!map.insert("a", "p-a"));
        assert!(map.insert("a", "p-b"), "takes p-b from b");
        assert_eq!((map.consumer("p-a"), map.consumer("p-b"), map.provider("b")), (None, Some("a"), None));
        assert_eq!(map.remove("a").as_deref(), Some("p-b"));
        assert_eq!(map, NamespaceMap::new());
    }

    #[test]
    fn foreign_keys_do_not_translate() {
        let none = NamespaceMap::new();
        let prefixed = Mapping::new(Strategy::Prefixed, "cluster-x");
        for name in ["cluster-y-a", "cluster-xa", "cluster-x-", "cluster-x", "a"] {
            assert_eq!(prefixed.to_consumer(&ProviderKey::new(None, name), &none), None, "{name}");
        }
        let namespaced = Mapping::new(Strategy::Namespaced, "cluster-x");
        assert_eq!(namespaced.to_consumer(&ProviderKey::new(Some("cluster-y"), "a"), &none), None);
        assert_eq!(namespaced.to_consumer(&ProviderKey::new(None, "a"), &none), None);
    }

    fn name() -> impl proptest::strategy::Strategy<Value = String> {
        "[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?"
    }

    proptest! {
        #[test]
        fn keys_come_back(contract in name(), namespace in name(), object in name(), which in 0..4usize) {
            let strategy = [Strategy::ServiceNamespaced, Strategy::Prefixed, Strategy::Namespaced, Strategy::None][which];
            let mapping = Mapping::new(strategy, contract.clone());
            let mapped = mapped_namespace(&contract, Isolation::Prefixed, &namespace);
            let map: NamespaceMap = [(namespace.as_str(), mapped.as_str())].into_iter().collect();
            let scoped = (strategy == Strategy::ServiceNamespaced).then_some(namespace.as_str());
            let key = ConsumerKey::new(scoped, object);
            let provider = mapping.to_provider(&key, &map).unwrap();
            prop_assert_eq!(provider.namespace.is_some(), strategy.provider_scope() == Scope::Namespaced);
            prop_assert_eq!(mapping.to_consumer(&provider, &map), Some(key));
        }

        #[test]
        fn mapped_namespaces_are_namespaces(contract in name(), namespace in "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?") {
            let mapped = mapped_namespace(&contract, Isolation::Prefixed, &namespace);
            prop_assert!(apimachinery::names::dns1123_label(&mapped).is_empty(), "{}", mapped);
        }
    }
}
