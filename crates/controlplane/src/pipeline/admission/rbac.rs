//! Roles and bindings: nobody grants what he does not hold.

use apimachinery::status::StatusError;
use serde_json::Value;

use super::Admission;
use crate::auth::RbacWrite;

pub(super) fn admit(admission: &Admission<'_>, object: &Value) -> Result<(), StatusError> {
    let target = admission.target;
    admission.core.auth.admit(
        admission.core,
        &RbacWrite {
            user: &admission.ctx.user,
            cluster: &target.cluster,
            group: &target.resource.group,
            resource: &target.resource.plural,
            namespace: &target.namespace,
            old: admission.old,
            new: object,
            addressed: admission.addressed,
        },
    )
}
