"""Addresses of a node's pods, when the master gives the node another block."""

from __future__ import annotations

from node_agent.address_book import AddressBook

FIRST, SECOND = "127.7.16.0/29", "127.7.24.0/29"


def test_a_block_is_opened_once() -> None:
    book = AddressBook()
    assert (book.block, book.open("")) == ("", False)
    assert (book.open(FIRST), book.open(FIRST), book.block) == (True, False, FIRST)
    assert book.allocate("a", "") == "127.7.16.1"
    assert book.allocate("b", "127.7.16.4") == "127.7.16.4"


def test_pods_keep_their_addresses_and_give_them_back_where_they_are_from() -> None:
    book = AddressBook()
    book.open(FIRST)
    assert [book.allocate(uid, "") for uid in "abcdef"] == [f"127.7.16.{number}" for number in range(1, 7)]
    assert book.allocate("g", "") == "", "all are taken"
    book.open(SECOND)
    book.release("a")
    assert book.allocate("g", "") == "127.7.24.1"
    book.release("g")
    book.release("nobody")
    assert book.allocate("h", "127.7.24.1") == "127.7.24.1"


def test_what_pods_have_already_is_nobody_elses() -> None:
    book = AddressBook()
    book.note("a", "127.7.16.1")  # before there is a block nothing is known of it
    book.open(FIRST)
    for uid, address in (("a", "127.7.16.1"), ("b", ""), ("c", "127.9.9.9")):
        book.note(uid, address)
    assert book.allocate("d", "127.7.16.1") != "127.7.16.1"
    book.release("a")
    assert book.allocate("e", "127.7.16.1") == "127.7.16.1"
