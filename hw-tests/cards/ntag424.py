#!/usr/bin/python3
"""A virtual NTAG 424 DNA in the protocol of the vsmartcard project (vpcd).

It is the chip's side, written after NXP's AN12196 and data sheet, apart from the till in another
language and on another cryptographic library (PyCryptodome), so that one slip cannot agree with itself.
Like a chip in random ID mode it shows another UID at every power-up.

    ntag424.py PORT UID KEYS [--record FILE | --replay FILE]
    ntag424.py PORT UID --memory FILE [--tear COUNT]

KEYS are the five keys in hex with commas between. With --record every answer of the last power-up is written
to FILE, one line each; with --replay these answers are given, in turn, instead of own ones.

With --memory the chip is what FILE says and remembers there what is written on it; without the FILE it
is fresh from the factory, with keys of zeros and its UID in the clear. With --tear it is torn away when it has
been sent COUNT commands after its application was selected: it has done the last one, and does not say so.
"""

import argparse
import json
import os
import socket
import struct
import zlib

from Cryptodome.Cipher import AES
from Cryptodome.Hash import CMAC

ATR = bytes.fromhex("3B8180018080")
SELECT = bytes.fromhex("00A4040007D276000085010100")
READ_UID = bytes.fromhex("FFCA000000")


def cbc(key, iv=bytes(16)):
    return AES.new(key, AES.MODE_CBC, iv=iv)


def cmac(key, message):
    return CMAC.new(key, msg=message, ciphermod=AES).digest()


def short(mac):
    return mac[1::2]


def session_keys(key, rnd_a, rnd_b):
    mixed = bytes(a ^ b for a, b in zip(rnd_a[2:8], rnd_b[:6]))
    context = rnd_a[:2] + mixed + rnd_b[6:] + rnd_a[8:]
    labels = (b"\xA5\x5A\x00\x01\x00\x80", b"\x5A\xA5\x00\x01\x00\x80")
    return [cmac(key, label + context) for label in labels]


class Torn(Exception):
    """The chip has left the field."""


class Chip:
    def __init__(self, uid, keys, versions=bytes(5), random_uid=True, memory=None, tear=None):
        self.uid = uid
        self.keys = keys
        self.versions = bytearray(versions)
        self.random_uid = random_uid
        self.memory = memory
        self.left = tear
        self.power_up()

    @staticmethod
    def from_memory(uid, memory, tear):
        if not os.path.exists(memory):
            return Chip(uid, [bytes(16)] * 5, random_uid=False, memory=memory, tear=tear)
        with open(memory) as file:
            held = json.load(file)
        keys = [bytes.fromhex(key) for key in held["keys"]]
        return Chip(uid, keys, bytes(held["versions"]), held["random_uid"], memory, tear)

    def remember(self):
        held = {
            "keys": [key.hex() for key in self.keys],
            "versions": list(self.versions),
            "random_uid": self.random_uid,
        }
        with open(self.memory + ".new", "w") as file:
            json.dump(held, file)
        os.rename(self.memory + ".new", self.memory)

    def power_up(self):
        self.shown = b"\x08" + os.urandom(3) if self.random_uid else self.uid
        self.is_selected = False
        self.forget()

    def forget(self):
        self.challenge = None
        self.session = None

    def handle(self, command):
        if command == READ_UID:
            # What the reader answers by itself.
            return self.shown + b"\x90\x00"
        answer = self.answer(command)
        if self.is_selected and self.left is not None:
            if self.left == 0:
                raise Torn
            self.left -= 1
        return answer

    def answer(self, command):
        if command == SELECT:
            self.is_selected = True
            self.forget()
            return b"\x90\x00"
        if len(command) < 6 or command[0] != 0x90 or command[2:4] != b"\0\0":
            return b"\x6E\x00"
        if not self.is_selected:
            return b"\x6D\x00"
        code, data = command[1], command[5:-1]
        if command[4] != len(data) or command[-1] != 0:
            return b"\x91\x7E"
        if code == 0x71:
            return self.first_part(data)
        if code == 0xAF and self.challenge:
            return self.second_part(data)
        if code == 0x51 and self.session:
            return self.card_uid(data)
        if code in (0x5C, 0xC4) and self.session and self.number == 0:
            return self.change(code, data)
        if code == 0x64 and not self.session:
            return self.key_version(data)
        self.forget()
        return {0x51: b"\x91\xAE", 0x5C: b"\x91\x9D", 0xC4: b"\x91\x9D"}.get(code, b"\x91\x1C")

    def key_version(self, data):
        if len(data) != 1 or data[0] >= len(self.keys):
            return b"\x91\x40"
        return bytes([self.versions[data[0]]]) + b"\x91\x00"

    def first_part(self, data):
        self.forget()
        if len(data) < 2 or data[0] >= len(self.keys):
            return b"\x91\x40"
        key, rnd_b = self.keys[data[0]], os.urandom(16)
        self.number = data[0]
        self.challenge = (key, rnd_b)
        return cbc(key).encrypt(rnd_b) + b"\x91\xAF"

    def second_part(self, data):
        (key, rnd_b), self.challenge = self.challenge, None
        if len(data) != 32:
            return b"\x91\x7E"
        plain = cbc(key).decrypt(data)
        rnd_a, turned = plain[:16], plain[16:]
        if turned != rnd_b[1:] + rnd_b[:1]:
            return b"\x91\xAE"
        transaction = os.urandom(4)
        answer = transaction + rnd_a[1:] + rnd_a[:1] + bytes(12)
        self.session = (*session_keys(key, rnd_a, rnd_b), transaction, 0)
        return cbc(key).encrypt(answer) + b"\x91\x00"

    def card_uid(self, data):
        encryption, mac, transaction, counter = self.session
        asked = b"\x51" + struct.pack("<H", counter) + transaction
        if data != short(cmac(mac, asked)):
            self.forget()
            return b"\x91\x1E"
        counter += 1
        count = struct.pack("<H", counter)
        iv = AES.new(encryption, AES.MODE_ECB).encrypt(b"\x5A\xA5" + transaction + count + bytes(8))
        sealed = cbc(encryption, iv).encrypt(self.uid + b"\x80" + bytes(8))
        self.session = (encryption, mac, transaction, counter)
        return sealed + short(cmac(mac, b"\0" + count + transaction + sealed)) + b"\x91\x00"


    def change(self, code, data):
        """ChangeKey and SetConfiguration: what is encrypted is written, or the session ends."""
        encryption, mac, transaction, counter = self.session
        self.forget()
        header, sealed, check = data[:1], data[1:-8], data[-8:]
        count = struct.pack("<H", counter)
        if len(sealed) % 16 or check != short(cmac(mac, bytes([code]) + count + transaction + header + sealed)):
            return b"\x91\x1E"
        iv = AES.new(encryption, AES.MODE_ECB).encrypt(b"\xA5\x5A" + transaction + count + bytes(8))
        plain = cbc(encryption, iv).decrypt(sealed).rstrip(b"\0")
        if plain[-1:] != b"\x80":
            return b"\x91\x1E"
        plain = plain[:-1]
        number = header[0] if header else 255
        if code == 0x5C and (number, plain) == (0, b"\x02"):
            self.random_uid = True
        elif code == 0xC4 and number == 0 and len(plain) == 17:
            self.write_key(0, plain[:16], plain[16])
            # The session is over, so nothing can vouch for the answer.
            return b"\x91\x00"
        elif code == 0xC4 and 0 < number < len(self.keys) and len(plain) == 21:
            key = bytes(a ^ b for a, b in zip(plain, self.keys[number]))
            # CRC-32 without its last complement.
            if struct.pack("<I", zlib.crc32(key) ^ 0xFFFFFFFF) != plain[17:]:
                return b"\x91\x1E"
            self.write_key(number, key, plain[16])
        else:
            return b"\x91\x7E"
        if self.memory:
            self.remember()
        counter += 1
        self.session = (encryption, mac, transaction, counter)
        return short(cmac(mac, b"\0" + struct.pack("<H", counter) + transaction)) + b"\x91\x00"

    def write_key(self, number, key, version):
        self.keys[number] = key
        self.versions[number] = version
        if self.memory:
            self.remember()


class Recording:
    """What a chip said once, said again."""

    def __init__(self, path):
        with open(path) as file:
            self.answers = [bytes.fromhex(line) for line in file]
        self.power_up()

    def power_up(self):
        self.left = list(self.answers)

    def handle(self, command):
        if command == READ_UID or command == SELECT:
            self.power_up()
        if command == SELECT:
            # The reading of the UID came before it.
            self.left.pop(0)
        return self.left.pop(0) if self.left else b"\x6F\x00"


def hear(line):
    def whole(length):
        heard = b""
        while len(heard) < length:
            part = line.recv(length - len(heard))
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
            if not part:
                raise EOFError
            heard += part
        return heard

    (length,) = struct.unpack(">H", whole(2))
    return whole(length)


def serve(line, chip, record):
    said = []
    while True:
        message = hear(line)
        if message in (b"\0", b"\1", b"\2"):
            chip.power_up()
            continue
        answer = ATR if message == b"\4" else chip.handle(message)
        if message != b"\4" and record:
            said = [answer] if message == READ_UID else said + [answer]
            with open(record, "w") as file:
                file.writelines(answer.hex() + "\n" for answer in said)
        line.sendall(struct.pack(">H", len(answer)) + answer)


def check_examples():
    """AN12196: session keys of the authentication with key 0, and key 2 changed by key 0."""
    rnd_a = bytes.fromhex("13C5DB8A5930439FC3DEF9A4C675360F")
    rnd_b = bytes.fromhex("B9E2FC789B64BF237CCCAA20EC7E6E48")
    keys = [key.hex().upper() for key in session_keys(bytes(16), rnd_a, rnd_b)]
    expected = ["1309C877509E5A215007FF0ED19CA564", "4C6626F5E72EA694202139295C7A7FC7"]
    assert keys == expected, keys
    chip = Chip(bytes(7), [bytes(16)] * 5)
    session = ["4CF3CB41A22583A61E89B158D252FC53", "5529860B2FC5FB6154B7F28361D30BF9", "7614281A"]
    chip.session = (*map(bytes.fromhex, session), 2)
    chip.number, chip.is_selected = 0, True
    answer = chip.handle(bytes.fromhex(
        "90C4000029022CF362B7BF4311FF3BE1DAA295E8C68DE09050560D19B9E16C2393AE9CD1FAC75D0CE20BCD1D06E600"))
    assert answer.hex() == "203bb55d1089d5879100", answer.hex()
    assert chip.keys[2].hex() == "f3847d627727ed3bc9c4cc050489b966", chip.keys[2].hex()
    assert chip.versions[2] == 1


def main():
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("port", type=int)
    words.add_argument("uid", type=bytes.fromhex)
    words.add_argument("keys", nargs="?")
    words.add_argument("--memory")
    words.add_argument("--tear", type=int)
    words.add_argument("--record")
    words.add_argument("--replay")
    wanted = words.parse_args()
    check_examples()
    if wanted.replay:
        chip = Recording(wanted.replay)
    elif wanted.memory:
        chip = Chip.from_memory(wanted.uid, wanted.memory, wanted.tear)
    else:
        chip = Chip(wanted.uid, [bytes.fromhex(key) for key in wanted.keys.split(",")])
    with socket.create_connection(("127.0.0.1", wanted.port)) as line:
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            serve(line, chip, wanted.record)
        except (EOFError, ConnectionError, Torn):
            # The reader has been switched off, or the chip lifted.
            pass


if __name__ == "__main__":
    main()
