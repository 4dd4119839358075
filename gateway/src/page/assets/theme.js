// Runs before anything is painted: the chosen theme, and that there are scripts.
(() => {
  const root = document.documentElement;
  root.classList.add("has-scripts");
  try {
    const theme = localStorage.getItem("runledger.theme");
    if (theme === "dark" || theme === "light") root.dataset.theme = theme;
  } catch {
    // Storage may be closed to pages; then the system's theme stays.
  }
})();
