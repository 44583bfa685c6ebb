//! Who is in a chat and on which terms, as its members see and change it.

use super::Chat;
use crate::{
    ChatInfo, Control, ControlError, EntryKey, Invite, InviteTerms, LookError, MembersPage, SettingsChange,
    control::{Changed, Invitation},
    look,
    session::{Answer, Input},
};
use bytes::Bytes;
use proto::client::{self as wire, client_frame::Frame};
use std::time::Duration;
use types::{MemberRole, MessageId, UserId, limits};

impl Chat {
    /// Changes the chat. It is tried over refusals for now and reconnects, for
    /// [`crate::Timing::call_timeout_ms`], under one id, so that it happens once.
    ///
    /// # Errors
    /// [`ControlError`]; `forbidden` where the user's role does not allow it, `conflict` where it has happened already or
    /// the chat has changed meanwhile.
    pub async fn change(&self, control: Control) -> Result<Changed, ControlError> {
        self.change_as(MessageId::from(host::random::id_in_time()), control).await
    }

    /// [`Chat::change`] under an id that the app has drawn (a UUID, once for each change): a repetition under it, by
    /// this device, happens once, however often the process dies.
    ///
    /// # Errors
    /// As [`Chat::change`].
    pub async fn change_as(&self, id: MessageId, control: Control) -> Result<Changed, ControlError> {
        let write = control.frame(self.log, id);
        match self.client.call(|call| Input::Control { call, write }).await {
            Some(Answer::Changed(changed)) => changed,
            _ => Err(ControlError::Closed),
        }
    }

    /// Lets users in as members; at most 256 at a time.
    ///
    /// ```
    /// # use client::{testing::FakeServer, Client, Config, InviteTerms, MemberRole, Message};
    /// # use types::{DeviceId, UserId};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = FakeServer::start().await;
    /// # let alice = Client::connect(Config::new([server.url()], UserId::new("alice")?, DeviceId::new(1)))?;
    /// # let (bob, carol) = (UserId::new("bob")?, UserId::new("carol")?);
    /// # let dan = Client::connect(Config::new([server.url()], UserId::new("dan")?, DeviceId::new(2)))?;
    /// let group = alice.open_group([7; 16], &[bob.clone()]).await?; // a UUID, drawn once
    /// group.rename("garden").await?;
    /// group.add(&[carol.clone()]).await?;
    /// group.set_role(&carol, MemberRole::Admin).await?;
    /// group.remove(&[bob]).await?;
    ///
    /// let invitation = group.invite(InviteTerms::default()).await?;
    /// let link = invitation.to_string(); // to be passed on
    /// let same = dan.join(&link.parse()?).await?;
    /// assert_eq!(same.members(None, 50).await?.members.len(), 3);
    /// same.leave().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ControlError`]; `conflict` where one of them is a member already: nobody was let in then.
    pub async fn add(&self, users: &[UserId]) -> Result<Changed, ControlError> {
        self.members_to(users, Some(MemberRole::Member)).await
    }

    /// Takes members out. They read up to the entry that says so, and nothing behind it.
    ///
    /// # Errors
    /// [`ControlError`]; `conflict` where one of them is no member: nobody was taken out then.
    pub async fn remove(&self, users: &[UserId]) -> Result<Changed, ControlError> {
        self.members_to(users, None).await
    }

    /// Gives a member another role.
    ///
    /// # Errors
    /// [`ControlError`]; `conflict` where the member has it already.
    pub async fn set_role(&self, user: &UserId, role: MemberRole) -> Result<Changed, ControlError> {
        self.members_to(std::slice::from_ref(user), Some(role)).await
    }

    /// Leaves the chat. Where the last owner leaves, whoever has been there longest is the owner.
    ///
    /// # Errors
    /// [`ControlError`]; `forbidden` where the user is no member.
    pub async fn leave(&self) -> Result<Changed, ControlError> {
        self.members_to(std::slice::from_ref(self.client.user()), None).await
    }

    async fn members_to(&self, users: &[UserId], role: Option<MemberRole>) -> Result<Changed, ControlError> {
        self.change(Control::Members(users.iter().map(|user| (user.clone(), role)).collect())).await
    }

    /// Gives the chat another name, made unreadable by the app: at most 256 bytes; empty: none.
    ///
    /// # Errors
    /// [`ControlError`].
    pub async fn rename(&self, name: impl Into<Bytes>) -> Result<Changed, ControlError> {
        self.change(Control::Settings(SettingsChange { name: Some(name.into()), ..Default::default() })).await
    }

    /// Lets what is written from now on expire after so long, at least a second; none: it stays. Who may: in a direct
    /// chat both, in a group admins.
    ///
    /// # Errors
    /// [`ControlError`].
    pub async fn set_expiry(&self, after: Option<Duration>) -> Result<Changed, ControlError> {
        let ms = after.map_or(0, |after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX).max(1));
        self.change(Control::Settings(SettingsChange { expiry_ms: Some(ms), ..Default::default() })).await
    }

    /// Makes an invite: whoever is given what is answered may join.
    ///
    /// # Errors
    /// [`ControlError`]; `forbidden` where the user may not invite.
    pub async fn invite(&self, terms: InviteTerms) -> Result<Invitation, ControlError> {
        let invitation = Invitation::draw(self.log);
        self.change(Control::Invite { secret: invitation.secret().clone(), terms }).await?;
        Ok(invitation)
    }

    /// Lets nobody in any more by an invite, as [`Chat::invites`] or [`Invitation::name`] names it.
    ///
    /// # Errors
    /// [`ControlError`]; `unknown_invite` where there is none.
    pub async fn revoke_invite(&self, name: &str) -> Result<Changed, ControlError> {
        self.change(Control::RevokeInvite(name.to_owned())).await
    }

    /// Takes the bodies of messages away, from every store in every region; at most 256 at a time. Own ones; admins of a
    /// group those of others, too. An edit is a message of its own.
    ///
    /// # Errors
    /// [`ControlError`]; `unknown_message` where the chat has one of them not: nothing was deleted then.
    pub async fn delete(&self, messages: &[EntryKey]) -> Result<Changed, ControlError> {
        self.change(Control::Delete(messages.to_vec())).await
    }

    /// What the chat is now.
    ///
    /// # Errors
    /// [`LookError`]; `forbidden` where the user is no member.
    pub async fn info(&self) -> Result<ChatInfo, LookError> {
        let read = Frame::ReadChat(wire::ReadChat { log: self.log.to_string() });
        match self.client.call(|call| Input::Look { call, read }).await {
            Some(Answer::Info(info)) => info,
            _ => Err(LookError::Closed),
        }
    }

    /// Who is in the chat, by name, behind `after`.
    ///
    /// # Errors
    /// [`LookError`]; `forbidden` where the user is no member.
    pub async fn members(&self, after: Option<&UserId>, limit: usize) -> Result<MembersPage, LookError> {
        let limit = limit.clamp(1, limits::PAGE_MAX_ENTRIES) as u32;
        let read = Frame::ReadMembers(look::read_members(self.log, after, limit));
        match self.client.call(|call| Input::Look { call, read }).await {
            Some(Answer::Members(page)) => page,
            _ => Err(LookError::Closed),
        }
    }

    /// The invites that can be used.
    ///
    /// # Errors
    /// [`LookError`]; `forbidden` where the user may not invite.
    pub async fn invites(&self) -> Result<Vec<Invite>, LookError> {
        let read = Frame::ReadInvites(wire::ReadInvites { log: self.log.to_string() });
        match self.client.call(|call| Input::Look { call, read }).await {
            Some(Answer::Invites(invites)) => invites,
            _ => Err(LookError::Closed),
        }
    }
}

impl super::Client {
    /// Comes to a chat by an invitation.
    ///
    /// # Errors
    /// [`ControlError`]; `unknown_invite` where it cannot be used any more, `conflict` where the user is a member already.
    pub async fn join(&self, invitation: &Invitation) -> Result<Chat, ControlError> {
        let chat = self.chat(invitation.log());
        chat.change(Control::Join { secret: invitation.secret().clone() }).await?;
        Ok(chat)
    }
}
