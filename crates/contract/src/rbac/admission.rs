//! Admission policies at the consumer (Kubernetes 1.30 and later) that narrow what RBAC cannot say (`contract.md` §2).
