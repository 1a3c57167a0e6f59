// Posts the code of the login link by itself and forgets it.
"use strict";

const status = document.getElementById("status");
const code = new URLSearchParams(location.hash.slice(1)).get("code");
history.replaceState(null, "", "/login");

function logIn() {
  const request = { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ code }) };
  fetch("/login", request).then(
    (response) => {
      if (response.ok) location.replace("/");
      else status.textContent = "This link was used already or has expired.";
    },
    () => (status.textContent = "The server does not answer. Reload the page to try again."),
  );
}

if (code) logIn();
else status.textContent = "Open the link that the server printed when it started, or a new one.";
