//! The fields that the contract knows and this version does not act upon. They are refused, never passed over.

use super::context::Context;
use crate::field::Field;
use crate::file::CertificateFile;

impl Context<'_> {
    /// Refuses the sources of certificates that are not available yet, and says whether there was one.
    pub(super) fn not_yet_in_certificate(&self, file: &CertificateFile) -> bool {
        self.not_yet("acme", &file.acme);
        !file.acme.is_missing()
    }

    fn not_yet<T>(&self, name: &str, field: &Field<T>) {
        if !field.is_missing() {
            self.report.error(field.key(), &self.path.field(name), NOT_YET);
        }
    }
}

const NOT_YET: &str = "not available yet";
