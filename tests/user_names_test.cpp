// SPDX-License-Identifier: GPL-2.0-or-later
#include "daemon/user_names.h"

#include <catch2/catch.hpp>

#include "daemon/alerts.h"

using namespace sipward;
using namespace sipward::daemon;
using config::LogUsers;

namespace {

StateSecret counting() { // 00 01 02 ... 0f, the key of the authors' test vectors
  StateSecret secret{};
  for (std::size_t i = 0; i < secret.size(); ++i) secret[i] = static_cast<std::uint8_t>(i);
  return secret;
}

} // namespace

TEST_CASE("the hash is SipHash-2-4, by its authors' vectors") {
  std::string text;
  const auto next = [&] { text += static_cast<char>(text.size()); };
  CHECK(siphash(text, counting()) == 0x726fdb47dd0e0e31);
  next();
  CHECK(siphash(text, counting()) == 0x74f839c593dc67fd);
  while (text.size() < 8) next();
  CHECK(siphash(text, counting()) == 0x93f5f5799a932462);
  while (text.size() < 15) next();
  CHECK(siphash(text, counting()) == 0xa129ca6149be45e5);
}

TEST_CASE("a name is told in full, as a hash of this host, or not at all") {
  CHECK(UserNames(LogUsers::Full, counting()).shown("alice") == "\"alice\"");
  CHECK(UserNames(LogUsers::Full, counting()).shown("a\x1b\nb") == "\"a\\x1b\\x0ab\"");
  CHECK(UserNames(LogUsers::Off, counting()).shown("alice") == "-");
  const auto hashed = UserNames(LogUsers::Hash, counting()).shown("alice");
  CHECK(hashed.starts_with("hash:"));
  CHECK(hashed.size() == 5 + 16);
  CHECK(hashed == UserNames(LogUsers::Hash, counting()).shown("alice"));
  CHECK(hashed != UserNames(LogUsers::Hash, counting()).shown("alicf"));
  CHECK(hashed != UserNames(LogUsers::Hash, StateSecret{}).shown("alice"));
}

TEST_CASE("alerts about users follow the setting") {
  policy::Offence notice;
  notice.source = policy::Address::v4(198, 51, 100, 66);
  notice.user = policy::Excerpt("alice");
  for (const auto kind : {policy::Notice::UserBurnt, policy::Notice::UserUnderAttack}) {
    notice.notice = kind;
    CHECK(alert_of(notice, UserNames(LogUsers::Full, counting())).find("user=\"alice\"") != std::string::npos);
    for (const auto how : {LogUsers::Hash, LogUsers::Off})
      CHECK(alert_of(notice, UserNames(how, counting())).find("alice") == std::string::npos);
  }
}
