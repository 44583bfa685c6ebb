"""Users, devices, chats and invites, and for each operation a call that succeeds with them.

An operation that ends something (a device, an account, a membership, somebody's right to write) has a user of its own:
what is generated for it names whatever answers have named, and the others go on.
"""

import base64
import time
import uuid

import requests

PASSWORD = "correct horse battery"
DEADLINE_S = 30
# Operations with users of their own.
ALONE = [
    "logOut",
    "changePassword",
    "closeAccount",
    "revokeOtherDevices",
    "revokeDevice",
    "leaveChat",
    "changeMembers",
    "changeChat",
    "changeNames",
]


class User:
    """Somebody with an account, on one device."""

    def __init__(self, node, name):
        self.node, self.name = node, name
        body = {"request_id": str(uuid.uuid4()), "username": name, "password": PASSWORD}
        self.hold(self.ask("POST", "/v1/register", {**body, "display_name": name, "device_name": "phone"}))

    def hold(self, signed_in):
        self.user, self.device = signed_in["user"], signed_in["device"]
        self.token, self.refresh = signed_in["access_token"], signed_in["refresh_token"]

    def log_in(self, device_name):
        """Another device of the user."""
        body = {"request_id": str(uuid.uuid4()), "name": self.name, "password": PASSWORD}
        return self.ask("POST", "/v1/login", {**body, "device_name": device_name})

    def ask(self, method, path, body=None):
        """The answer; a node that cannot serve just now is asked again."""
        headers = {"idempotency-key": str(uuid.uuid4())}
        if hasattr(self, "token"):
            headers["authorization"] = f"Bearer {self.token}"
        deadline = time.monotonic() + DEADLINE_S
        while True:
            answer = requests.request(method, self.node + path, json=body, headers=headers, timeout=20)
            if answer.ok:
                return answer.json() if answer.content else None
            if not answer.json().get("retryable") or time.monotonic() > deadline:
                raise SystemExit(f"{method} {path}: {answer.status_code} {answer.text}")
            time.sleep(answer.json().get("retry_after_ms", 200) / 1_000)

    def open_group(self, *others):
        members = [other.user for other in others]
        body = {"group": {"key": str(uuid.uuid4()), "members": members}}
        return self.ask("POST", "/v1/chats", body)["log"]

    def send(self, log):
        message_id = str(uuid.uuid4())
        body = {"messageId": message_id, "ciphertext": "aGVsbG8=", "ack": "ACK_POLICY_REPLICATED"}
        return self.ask("POST", f"/v1/chats/{log}/messages", body)

    def invite(self, log):
        """The secret of an invite, and what it is named by."""
        secret = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        self.ask("POST", f"/v1/chats/{log}/invites", {"secret": secret})
        invites = self.ask("GET", f"/v1/chats/{log}/invites")["invites"]
        return secret, invites[-1]["invite"]


def prepare(nodes):
    """What hooks.py needs: whose token each operation shows, and for each operation a call that succeeds."""
    home, away = nodes[0], nodes[-1]
    ann, ben, cay = User(home, "ann"), User(away, "ben"), User(home, "cay")
    tablet = ann.log_in("tablet")
    group = ann.open_group(ben)
    sent, seen = ann.send(group), ben.send(group)
    joined, revoking = ben.open_group(), ann.open_group()
    secret, _ = ben.invite(joined)
    _, revoked = ann.invite(revoking)
    for path in ["contacts", "blocked"]:
        ann.ask("PUT", f"/v1/{path}/{cay.user}", {})
    alone = {name: User(home, name.lower()) for name in ALONE}
    alone["revokeOtherDevices"].log_in("tablet")
    lost = alone["revokeDevice"].log_in("laptop")
    staffed, changed = alone["changeMembers"].open_group(), alone["changeChat"].open_group()
    left = ann.open_group(alone["leaveChat"])

    def call(body=None, query=None, **path):
        return {"path": path, "query": query or {}, "body": body}

    def fresh():
        return str(uuid.uuid4())

    signing_in = {"request_id": fresh(), "password": PASSWORD, "device_name": "desk"}
    message = {"sender": ann.user, "device": ann.device, "message_id": sent["messageId"]}
    calls = {
        "readOpenApi": call(),
        "register": call({**signing_in, "username": "dot", "display_name": "Dot"}),
        "logIn": call({**signing_in, "name": "ben"}),
        "refresh": call({"refresh_token": ann.refresh}),
        "logOut": call(),
        "changePassword": call(
            {"request_id": fresh(), "old_password": PASSWORD, "new_password": PASSWORD + "!"}
        ),
        "closeAccount": call({"request_id": fresh(), "password": PASSWORD}),
        "listDevices": call(),
        "renameDevice": call({"name": "board"}, device=tablet["device"]),
        "revokeDevice": call(device=lost["device"]),
        "revokeOtherDevices": call(),
        "readAccount": call(),
        "changeNames": call({"username": "erin", "phone": "+4915112345678"}),
        "changeProfile": call({"display_name": "Ann", "about": "At sea.", "avatar": "m1"}),
        "changePrivacy": call({"last_seen": "contacts", "online": "everyone", "receipts": True}),
        "exportAccount": call(),
        "markChat": call({"pinned": True}, id=group),
        "findUser": call(query={"username": "ben"}),
        "seeUser": call(user=ben.user),
        "listContacts": call(),
        "setContact": call({"name": "Ben"}, user=ben.user),
        "removeContact": call(user=cay.user),
        "listBlocked": call(),
        "blockUser": call(user=cay.user),
        "unblockUser": call(user=cay.user),
        "listChats": call(),
        "sync": call(),
        "syncByPost": call({"limit": 5}),
        "openChat": call({"directWith": ben.user}),
        "send": call({"messageId": fresh(), "ciphertext": "aGVsbG8="}, id=group),
        "readHistory": call(id=group),
        "readReceipts": call(id=group),
        "markReceipts": call({"delivered": seen["position"], "read": seen["position"]}, id=group),
        "readChat": call(id=group),
        "changeChat": call({"name": "aGVsbG8="}, id=changed),
        "listMembers": call(id=group),
        "changeMembers": call({"changes": [{"user": cay.user, "role": "member"}]}, id=staffed),
        "listInvites": call(id=revoking),
        "makeInvite": call({"secret": "MDEyMzQ1Njc4OWFiY2RlZg"}, id=group),
        "revokeInvite": call(id=revoking, invite=revoked),
        "joinChat": call({"secret": secret}, id=joined),
        "leaveChat": call(id=left),
        "deleteMessages": call({"messages": [message]}, id=group),
    }
    tokens = {operation: user.token for operation, user in alone.items()}
    return {"token": ann.token, "tokens": tokens, "calls": calls}
