// Starts Swagger UI on our own document. A file of its own, because the page allows no inline script;
// `validatorUrl: null`, because the default asks a server on the internet to judge the document.
window.addEventListener("load", () => {
  window.SwaggerUIBundle({
    url: "/openapi.json",
    dom_id: "#operations",
    deepLinking: true,
    defaultModelsExpandDepth: 0,
    displayRequestDuration: true,
    layout: "BaseLayout",
    presets: [window.SwaggerUIBundle.presets.apis],
    tryItOutEnabled: true,
    validatorUrl: null,
  });
});
