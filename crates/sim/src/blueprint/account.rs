//! Sessions, accounts and roles.

use serde_json::json;

use super::{Check, Draft, link, ok};
use crate::template::Dynamic;

pub(super) fn write(draft: &mut Draft) {
    let sessions = "/redfish/v1/SessionService";
    let timeout = draft.spec.session_timeout;
    draft.put(sessions, "SessionService.v1_1_8.SessionService", json!({
        "Name": "Session Service", "ServiceEnabled": true, "SessionTimeout": timeout, "Status": ok(),
        "Sessions": link(&format!("{sessions}/Sessions")),
    }));
    draft.setting(sessions, "/SessionTimeout", Check::Whole(30, 86_400));
    draft.dynamic(
        &format!("{sessions}/Sessions"),
        "Session",
        "Session Collection",
        "sessions",
        Dynamic::Sessions,
    );

    let accounts = "/redfish/v1/AccountService";
    draft.put(accounts, "AccountService.v1_10_0.AccountService", json!({
        "Name": "Account Service", "ServiceEnabled": true, "Status": ok(), "MinPasswordLength": 4, "MaxPasswordLength": 40,
        "AccountLockoutThreshold": 0, "AccountLockoutDuration": 60, "AccountLockoutCounterResetAfter": 60,
        "Accounts": link(&format!("{accounts}/Accounts")), "Roles": link(&format!("{accounts}/Roles")),
    }));
    draft.setting(accounts, "/AccountLockoutThreshold", Check::Whole(0, 10));
    draft.setting(accounts, "/AccountLockoutDuration", Check::Whole(0, 86_400));
    draft.dynamic(
        &format!("{accounts}/Accounts"),
        "ManagerAccount",
        "Accounts Collection",
        "accounts",
        Dynamic::Accounts,
    );
    let roles = [
        (
            "Administrator",
            &[
                "Login",
                "ConfigureManager",
                "ConfigureUsers",
                "ConfigureSelf",
                "ConfigureComponents",
            ][..],
        ),
        (
            "Operator",
            &["Login", "ConfigureSelf", "ConfigureComponents"][..],
        ),
        ("ReadOnly", &["Login", "ConfigureSelf"][..]),
    ];
    for (role, privileges) in roles {
        draft.put(&format!("{accounts}/Roles/{role}"), "Role.v1_3_1.Role", json!({
            "Name": "User Role", "RoleId": role, "IsPredefined": true, "AssignedPrivileges": privileges, "OemPrivileges": [],
        }));
    }
    draft.collection(
        &format!("{accounts}/Roles"),
        "Role",
        "Roles Collection",
        &roles.map(|(role, _)| role.to_owned()),
    );
}
