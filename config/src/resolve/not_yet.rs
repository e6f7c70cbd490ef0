//! The fields that the contract knows and this version does not act upon. They are refused, never passed over.

use super::context::Context;
use crate::field::Field;
use crate::file::{CertificateFile, TenantFile, TenantSandboxFile};

impl Context<'_> {
    /// Refuses the fields of a tenant of mode Terminate that are not available yet.
    pub(super) fn not_yet_in_terminate(&self, file: &TenantFile) {
        self.not_yet("idleStop", &file.idle_stop);
    }

    /// Refuses the sources of certificates that are not available yet, and says whether there was one.
    pub(super) fn not_yet_in_certificate(&self, file: &CertificateFile) -> bool {
        self.not_yet("acme", &file.acme);
        !file.acme.is_missing()
    }

    /// Refuses the fields of a tenant's sandbox that are not available yet.
    pub(super) fn not_yet_in_sandbox(&self, file: &TenantSandboxFile) {
        self.not_yet("memoryMax", &file.memory_max);
    }

    /// Refuses a value of a field whose other values are available.
    pub(super) fn value_not_yet<T>(&self, field: &Field<T>, name: &str, value: &str) {
        self.error(field, name, format!("{value} is {NOT_YET}"));
    }

    fn not_yet<T>(&self, name: &str, field: &Field<T>) {
        if !field.is_missing() {
            self.report.error(field.key(), &self.path.field(name), NOT_YET);
        }
    }
}

const NOT_YET: &str = "not available yet";
