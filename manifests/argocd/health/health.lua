-- Health of a Tenant, TemplateRegistry or GenerationJob in Argo CD, read from metadata and conditions only.
-- Without it Argo CD takes objects of unknown kinds for healthy at once, and sync waves do not wait for them.
-- Uses nothing but ipairs: Argo CD runs it without Lua's libraries.

local health = {status = "Progressing", message = "waiting for the operator"}

if obj.metadata.deletionTimestamp ~= nil then
  health.message = "being deleted"
end

local conditions = {}
if obj.status ~= nil and obj.status.conditions ~= nil then
  for _, condition in ipairs(obj.status.conditions) do
    conditions[condition.type] = condition
  end
end

local function is_true(type)
  return conditions[type] ~= nil and conditions[type].status == "True"
end

local function text(type)
  local condition = conditions[type]
  if condition.message ~= nil and condition.message ~= "" then
    return condition.reason .. ": " .. condition.message
  end
  return condition.reason
end

if obj.metadata.deletionTimestamp ~= nil then
  if is_true("Deleting") then
    health.message = text("Deleting")
  end
  return health
end

-- The annotation that pauses an object keeps its status at an older generation on purpose.
if is_true("Paused") then
  return {status = "Suspended", message = text("Paused")}
end

if obj.status == nil or obj.status.observedGeneration == nil or obj.status.observedGeneration ~= obj.metadata.generation then
  return health
end

if is_true("Stalled") then
  return {status = "Degraded", message = text("Stalled")}
end

if is_true("Suspended") then
  return {status = "Suspended", message = text("Suspended")}
end

if is_true("Ready") then
  return {status = "Healthy", message = text("Ready")}
end

if conditions["Ready"] ~= nil then
  health.message = text("Ready")
end
return health
