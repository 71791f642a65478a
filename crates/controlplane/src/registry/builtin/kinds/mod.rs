//! The table of built-in kinds.
//!
//! Flows in: nothing. Flows out: one [`Kind`] a resource and version, from which [`super::resources`] makes descriptors.
//! Adding a kind is adding a row here (and, if it should merge or fill in, lines in the tables of facts).

mod governing;
mod workload;

use apimachinery::table::Column;
use k8s_openapi::api as k8s;

use super::definitions::TypeRef;
use crate::registry::{StoredAs, Subresource};

/// One built-in resource in one version.
pub(super) struct Kind {
    pub(super) group: &'static str,
    pub(super) version: &'static str,
    pub(super) plural: &'static str,
    pub(super) kind: &'static str,
    pub(super) short_names: &'static [&'static str],
    pub(super) categories: &'static [&'static str],
    pub(super) namespaced: bool,
    /// Only created and answered, never stored.
    pub(super) review: bool,
    pub(super) status: bool,
    pub(super) scale: bool,
    pub(super) generation: bool,
    pub(super) fields: &'static [&'static str],
    pub(super) subresources: &'static [Subresource],
    pub(super) stored_as: Option<StoredAs>,
    pub(super) columns: fn() -> Vec<Column>,
    pub(super) schema: TypeRef,
}

const fn kind(
    group: &'static str,
    version: &'static str,
    plural: &'static str,
    kind: &'static str,
    short_names: &'static [&'static str],
    schema: TypeRef,
    columns: fn() -> Vec<Column>,
) -> Kind {
    Kind {
        group,
        version,
        plural,
        kind,
        short_names,
        categories: &[],
        namespaced: true,
        review: false,
        status: false,
        scale: false,
        generation: false,
        fields: &[],
        subresources: &[],
        stored_as: None,
        columns,
        schema,
    }
}

impl Kind {
    const fn cluster(mut self) -> Self {
        self.namespaced = false;
        self
    }

    const fn in_all(mut self) -> Self {
        self.categories = &["all"];
        self
    }

    const fn extension(mut self) -> Self {
        self.categories = &["api-extensions"];
        self.namespaced = false;
        self
    }

    const fn status(mut self) -> Self {
        self.status = true;
        self
    }

    const fn scale(mut self) -> Self {
        self.scale = true;
        self
    }

    const fn generation(mut self) -> Self {
        self.generation = true;
        self
    }

    const fn fields(mut self, fields: &'static [&'static str]) -> Self {
        self.fields = fields;
        self
    }

    const fn subresources(mut self, subresources: &'static [Subresource]) -> Self {
        self.subresources = subresources;
        self
    }

    const fn review(mut self) -> Self {
        self.review = true;
        self
    }
}

macro_rules! of {
    ($t:ty) => {
        crate::registry::builtin::definitions::TypeRef::of::<$t>()
    };
}

use of;

/// Every built-in resource.
pub(super) fn kinds() -> Vec<Kind> {
    let mut kinds = workload::core();
    kinds.extend(workload::workloads());
    kinds.extend(governing::access());
    kinds.extend(governing::machinery());
    kinds.extend(governing::infrastructure());
    kinds
}

/// The types of subresources and of the answers themselves, which OpenAPI describes too.
pub(super) fn shared_types() -> Vec<TypeRef> {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
    vec![
        of!(k8s::autoscaling::v1::Scale),
        of!(k8s::authentication::v1::TokenRequest),
        of!(meta::DeleteOptions),
        of!(meta::ListMeta),
        of!(meta::ObjectMeta),
        of!(meta::Status),
    ]
}

/// Every type that is described.
#[cfg(test)]
pub(super) fn all_types() -> Vec<TypeRef> {
    kinds().iter().map(|kind| kind.schema).chain(shared_types()).collect()
}
