//! The user that the process becomes once its sockets are bound.

use std::fs;
use std::io;

use rustix::io::Errno;
use rustix::process::{Gid, Uid, getegid, geteuid, getgid, getuid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, set_capabilities, set_no_new_privs, set_thread_groups,
    set_thread_res_gid, set_thread_res_uid,
};

use crate::settings::UserName;

/// A user with its groups.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::process) struct Identity {
    name: String,
    uid: Uid,
    gid: Gid,
    groups: Vec<Gid>,
}

/// Whether the process has the rights of root.
pub(super) fn is_root() -> bool {
    geteuid().is_root()
}

impl Identity {
    /// Looks a user up in /etc/passwd and /etc/group.
    ///
    /// # Errors
    /// One line for the user: there is no such user or group, or it is root.
    pub(in crate::process) fn look_up(user: &UserName) -> Result<Self, String> {
        // Without these files, numbers do.
        let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let group = fs::read_to_string("/etc/group").unwrap_or_default();
        Self::find(user, &passwd, &group)
            .map_err(|problem| format!("cannot become user {user}: {problem}"))
    }

    fn find(user: &UserName, passwd: &str, group: &str) -> Result<Self, String> {
        let number = |text: &str| text.parse::<u32>().ok();
        let named = entries(passwd).find(|entry| entry[0] == user.user);
        let found = named.or_else(|| {
            number(&user.user)?;
            entries(passwd).find(|entry| entry.get(2) == Some(&user.user.as_str()))
        });
        let field = |index: usize| found.as_ref().and_then(|it| number(it.get(index)?));
        let uid = field(2).or_else(|| number(&user.user));
        let uid = uid.ok_or("there is no such user in /etc/passwd")?;
        let gid = match &user.group {
            Some(name) => entries(group)
                .find(|entry| entry[0] == name.as_str())
                .and_then(|entry| number(entry.get(2)?))
                .or_else(|| number(name))
                .ok_or("there is no such group in /etc/group")?,
            None => field(3).ok_or("it is not in /etc/passwd; write UID:GID")?,
        };
        // The highest number means "unchanged" to the system (setresuid(2)).
        if uid == 0 || uid == u32::MAX || gid == u32::MAX {
            return Err("name a user without privileges".to_owned());
        }
        let name = found.map_or(user.user.as_str(), |entry| entry[0]);
        let is_member = |entry: &Vec<&str>| {
            let members = entry.get(3).copied().unwrap_or_default();
            members.split(',').any(|member| member == name)
        };
        let others = entries(group).filter(is_member);
        let mut groups: Vec<u32> = others.filter_map(|entry| number(entry.get(2)?)).collect();
        groups.push(gid);
        groups.sort_unstable();
        groups.dedup();
        Ok(Self {
            name: name.to_owned(),
            uid: Uid::from_raw(uid),
            gid: Gid::from_raw(gid),
            groups: groups.into_iter().map(Gid::from_raw).collect(),
        })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Gives the calling thread this user, without capabilities or a way back.
    ///
    /// # Errors
    /// One line for the user: it may not become this user.
    pub(super) fn assume(&self) -> Result<(), String> {
        self.try_assume().map_err(|error| {
            let way_out = match error.kind() {
                io::ErrorKind::PermissionDenied => "; start as root, or leave --user out",
                _ => "",
            };
            format!("cannot become user {}: {error}{way_out}", self.name)
        })
    }

    fn try_assume(&self) -> io::Result<()> {
        let is_already = getuid() == self.uid
            && geteuid() == self.uid
            && getgid() == self.gid
            && getegid() == self.gid;
        if !is_already {
            set_thread_groups(&self.groups)?;
            set_thread_res_gid(self.gid, self.gid, self.gid)?;
            set_thread_res_uid(self.uid, self.uid, self.uid)?;
        }
        // The ambient set never has more than the permitted and the inheritable one (capabilities(7)).
        let none = CapabilitySets {
            effective: CapabilitySet::empty(),
            permitted: CapabilitySet::empty(),
            inheritable: CapabilitySet::empty(),
        };
        set_capabilities(None, none)?;
        set_no_new_privs(true)?;
        match set_thread_res_uid(None, Uid::ROOT, None) {
            Err(Errno::PERM) => Ok(()),
            _ => Err(io::Error::other("it could become root again")),
        }
    }
}

/// The fields of each line; the first is never missing.
fn entries(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines().map(|line| line.split(':').collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\
                          echo:x:990:980::/:/bin/false\n\
                          broken\n\
                          odd:x:twelve:980::/:/bin/false\n";
    const GROUP: &str = "root:x:0:\nweb:x:81:other,echo\necho:x:980:echo\nbroken\nlog:x:4:other\n";

    fn find(user: &str) -> Result<Identity, String> {
        Identity::find(&user.parse().unwrap(), PASSWD, GROUP)
    }

    #[track_caller]
    fn check(user: &str, name: &str, uid: u32, gid: u32, groups: &[u32]) {
        let expected = Identity {
            name: name.to_owned(),
            uid: Uid::from_raw(uid),
            gid: Gid::from_raw(gid),
            groups: groups.iter().copied().map(Gid::from_raw).collect(),
        };
        assert_eq!(find(user), Ok(expected));
    }

    #[test]
    fn users_are_found_by_name_and_by_number() {
        check("echo", "echo", 990, 980, &[81, 980]);
        check("990", "echo", 990, 980, &[81, 980]);
        check("echo:log", "echo", 990, 4, &[4, 81, 980]);
        check("echo:12", "echo", 990, 12, &[12, 81, 980]);
        check("5000:5001", "5000", 5000, 5001, &[5001]);
    }

    #[test]
    fn what_is_no_user_without_privileges_is_refused() {
        for (user, problem) in [
            ("nobody", "no such user"),
            ("odd", "no such user"),
            ("broken", "no such user"),
            ("5000", "write UID:GID"),
            ("echo:nogroup", "no such group"),
            ("root", "without privileges"),
            ("0:980", "without privileges"),
            ("4294967295:1", "without privileges"),
        ] {
            let refusal = find(user).unwrap_err();
            assert!(refusal.contains(problem), "{user}: {refusal}");
        }
    }
}
