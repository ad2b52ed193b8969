// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <functional>
#include <map>
#include <set>
#include <string>

#include "tests/story.h"

// Phones and attackers around a registrar, each event at its own time: what the guard hears is what lies between them.
namespace sipward::test {

struct World : Story {
  World() : Story(16384) {}

  void at(Duration when, std::function<void()> what) { events_.emplace(when, std::move(what)); }
  void after(Duration wait, std::function<void()> what) { at(clock + wait, std::move(what)); }
  void run(Duration until = 365 * 24h) {
    while (!events_.empty() && events_.begin()->first <= until) {
      auto next = events_.extract(events_.begin());
      clock = next.key() + (++turn_ % 2 == 0 ? slip : 0ms);
      next.mapped()();
      clock = next.key();
    }
    events_.clear();
  }

  Duration slip = 0ms; // every second event is seen by a worker whose clock is so much ahead

  // The registrar: what it thinks of a request, and how long it takes.
  Duration latency = 1ms;
  std::function<unsigned(const Request&)> judges_request; // the status; 0: it says nothing
  std::set<std::string> good_users;                       // whose passwords are right; others fail as usual_refusal
  unsigned usual_refusal = 401;
  unsigned decide_status(const Request& r) const {
    if (judges_request) return judges_request(r);
    if (r.nonce.empty()) return 401;
    return r.response == "right" && good_users.contains(r.user) ? 200 : usual_refusal;
  }

  struct Phone {
    std::string address;
    std::string user;
    Duration round_trip = 5ms; // to the guard and back, which stands beside the server
    std::uint16_t port = kPort;
    std::string_view method = "REGISTER";
    std::string response = "right";
    bool retransmits = true;
  };
  // Sends one request, answers its challenge, and retransmits what is not answered, as RFC 3261 says.
  void call_in(const Phone& phone) { send(phone, {.method = phone.method, .user = phone.user, .cseq = ++number}); }

  // What the guard did to honest parties.
  int finished = 0, failed = 0;

private:
  void send(const Phone& phone, const Request& request) {
    auto answered = std::make_shared<bool>(false);
    Duration wait = 0ms, interval = 500ms;
    for (int i = 0; i < (phone.retransmits ? 11 : 1); ++i) {
      after(phone.round_trip / 2 + wait, [=, this] {
        if (!*answered) arrive(phone, request, answered);
      });
      wait += interval;
      interval = std::min<Duration>(2 * interval, 4s);
    }
  }
  void arrive(const Phone& phone, const Request& request, const std::shared_ptr<bool>& answered) {
    if (hears(phone.address, request, phone.port).drop) return;
    const unsigned status = decide_status(request);
    if (status == 0) return;
    after(latency, [=, this] {
      const std::string nonce = status == 401 || status == 407 ? "n" + std::to_string(++number) : "";
      answers(phone.address, answer_to(request, status, nonce, "t" + std::to_string(++number)), phone.port);
      after(phone.round_trip / 2, [=, this] {
        if (*answered) return;
        *answered = true;
        if (nonce.empty() || !request.nonce.empty() || phone.response.empty())
          return void(++(status < 300 ? finished : failed));
        Request next = request;
        next.cseq = ++number;
        next.nonce = nonce;
        next.response = phone.response;
        send(phone, next);
      });
    });
  }

  std::multimap<Duration, std::function<void()>> events_;
  unsigned turn_ = 0;
};

} // namespace sipward::test
