//! Messages with a secret in them: what is shown of them where they are shown at all, which is not the
//! secret.

use std::fmt;

use crate::v1::{CreateTokenResponse, LoginResponse, SetPasswordRequest};

impl fmt::Debug for LoginResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoginResponse").field("principal", &self.principal).finish_non_exhaustive()
    }
}

impl fmt::Debug for SetPasswordRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("SetPasswordRequest");
        shown.field("principal", &self.principal).finish_non_exhaustive()
    }
}

impl fmt::Debug for CreateTokenResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CreateTokenResponse").field("id", &self.id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_in_a_message_is_not_shown() {
        let secret = || "hunter2".to_owned();
        let login = LoginResponse { token: secret(), ..Default::default() };
        let password = SetPasswordRequest { principal: "anna".to_owned(), password: secret() };
        let token = CreateTokenResponse { token: secret(), id: "1".to_owned() };
        let shown = format!("{login:?} {password:?} {token:?}");
        assert!(!shown.contains("hunter2") && shown.contains("anna"), "{shown}");
    }
}
