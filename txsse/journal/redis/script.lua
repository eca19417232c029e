-- The atomic operations of a journal in Redis. The first argument is the name of a command; see `commands` below.
--
-- {key}:updates  a stream. Each entry has the fields of an update; `crc`, their checksum; and `after`, the id of the
--                entry before it. By `after`, a follower detects that entries were removed before it read them, or
--                that the record was set back. An entry with neither `crc` nor `after` was not written by a hub.
--                `retain` is how an update is retained, or which retained one it removes. The last fields are
--                `again`, if an older held entry had the same update id; and `more`, if the next entry belongs to
--                the same batch.
-- {key}:ids      a hash from the id of an update to the id of its entry. If several entries have the update id, the
--                value is the earliest and the newest of them, separated by a space; and for each of them except the
--                newest, the hash maps NUL and this entry to the next entry with the update id.
-- {key}:meta     a hash: `last`, the newest entry ever stored; `floor`, the entry up to which all are dropped;
--                `count` and `bytes` of the entries after the floor, which are held; `gone` and `gone_bytes` of the
--                dropped entries that are still in the stream, so that followers which are slightly late can read
--                them; `secret`, the secret of the resume IDs; `retained`, the totals of the retained updates.
-- {key}:retained, {key}:retained:by_expiry, {key}:revocations, {key}:revocations:by_expiry, {key}:nodes and keys that
-- begin with {key}:nodes are described below.
--
-- Any of these values may be damaged. An unreadable value is repaired from the stream, or treated as missing.
--
-- An entry's id is the time in milliseconds and a number, so ids grow. The caller passes the time: the time of this
-- server when the session began, plus the time elapsed since.

local stream, ids, meta = KEYS[1], KEYS[2], KEYS[3]

-- How many dropped entries stay in the stream for late followers: their number, bytes, and age in milliseconds.
local LATE_COUNT, LATE_BYTES, LATE_AGE = 1000, 16 * 1024 * 1024, 10000

local function parts(id)
    local time, number = string.match(id, '^(%d+)-(%d+)$')
    return tonumber(time), tonumber(number)
end

-- Ids with more digits than a millisecond of the year 33658, or than 10^15 entries in one millisecond, are damaged.
-- Lua's numbers could not represent them.
local function is_id(text)
    local time, number = string.match(text or '', '^(%d+)-(%d+)$')
    return time ~= nil and #time <= 15 and #number <= 15
end

local function is_before(one, other)
    local time, number = parts(one)
    local other_time, other_number = parts(other)
    return time < other_time or (time == other_time and number < other_number)
end

local function field(entry, name)
    for i = 1, #entry[2], 2 do
        if entry[2][i] == name then return entry[2][i + 1] end
    end
end

-- Whether a hub wrote an entry. A hub's entry stays in the stream even if it is damaged, because a reader reports a
-- gap there.
local function is_ours(entry)
    return field(entry, 'after') or field(entry, 'crc')
end

local function size_of(entry)
    local size = 100
    for i = 2, #entry[2], 2 do size = size + #entry[2][i] end
    return size
end

-- Return the earliest and the newest entry of a value of the hash, or nothing if it is missing or damaged.
local function entries_of(known)
    local earliest, newest = string.match(known or '', '^(%S+) ?(%S*)$')
    if newest == '' then newest = earliest end
    if is_id(earliest) and is_id(newest) then return earliest, newest end
end

-- Make an entry the newest with an update id. `known` is the value of the hash for this id.
local function remember(id, entry, known)
    local earliest, newest = entries_of(known)
    if earliest then
        redis.call('HSET', ids, id, earliest .. ' ' .. entry, '\0' .. newest, entry)
    else
        redis.call('HSET', ids, id, entry)
    end
end

-- If an entry is the earliest of several with an update id, make the next one the earliest.
local function drop_earliest(id, entry)
    local earliest, newest = entries_of(redis.call('HGET', ids, id))
    if earliest ~= entry then return end
    local link = '\0' .. entry
    local next = redis.call('HGET', ids, link)
    redis.call('HDEL', ids, link)
    if earliest == newest then
        redis.call('HDEL', ids, id)
    elseif is_id(next) and next ~= newest then
        redis.call('HSET', ids, id, next .. ' ' .. newest)
    else
        redis.call('HSET', ids, id, newest)
    end
end

local function first_after(id)
    return redis.call('XRANGE', stream, '(' .. id, '+', 'COUNT', 1)[1]
end

local function exists(id)
    return redis.call('XRANGE', stream, id, id, 'COUNT', 1)[1]
end

-- Return a floor, if that in the hash is damaged: the entry before the oldest one in the stream. Dropped entries that
-- are still in the stream are then held again. Readers still detect that entries before the oldest are missing.
local function oldest_floor()
    local oldest = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
    if not oldest then return end
    local before = field(oldest, 'after')
    return is_id(before) and is_before(before, oldest[1]) and before or oldest[1]
end

local function load()
    local found = redis.call('HMGET', meta, 'last', 'floor', 'count', 'bytes', 'gone', 'gone_bytes')
    local last, floor = found[1], found[2]
    if not is_id(last) then
        -- The journal is new, or its hash is damaged or was deleted by another program.
        local newest = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
        last = newest and newest[1] or '0-0'
    end
    local oldest = not is_id(floor) and oldest_floor()
    -- An empty stream needs no count. A count writes first, and after a script's first write, a server without memory
    -- no longer refuses its other writes.
    local state = { last = last, floor = is_id(floor) and floor or oldest or last, unsure = oldest and true }
    for i, name in ipairs({ 'count', 'bytes', 'gone', 'gone_bytes' }) do
        local counted = tonumber(found[i + 2] or '0')
        -- If a value is not a valid count, all entries are counted anew.
        state.unsure = state.unsure or not counted or not (counted >= 0 and counted < 1e15)
        state[name] = counted
    end
    return state
end

local function save(state)
    redis.call('HSET', meta, 'last', state.last, 'floor', state.floor, 'count', state.count,
        'bytes', state.bytes, 'gone', state.gone, 'gone_bytes', state.gone_bytes)
end

-- Count all entries and rebuild the hash of ids, because another program has removed entries, or a count is damaged.
local function recount(state)
    state.unsure, state.recounted = false, true
    redis.call('DEL', ids)
    state.count, state.bytes, state.gone, state.gone_bytes = 0, 0, 0, 0
    local id = '-'
    while true do
        local page = redis.call('XRANGE', stream, id, '+', 'COUNT', 1000)
        if #page == 0 then return end
        for _, entry in ipairs(page) do
            if not is_ours(entry) then
                redis.call('XDEL', stream, entry[1])
            elseif is_before(state.floor, entry[1]) then
                state.count, state.bytes = state.count + 1, state.bytes + size_of(entry)
                local id = field(entry, 'id')
                if id then remember(id, entry[1], redis.call('HGET', ids, id)) end
            else
                state.gone, state.gone_bytes = state.gone + 1, state.gone_bytes + size_of(entry)
            end
        end
        id = '(' .. page[#page][1]
    end
end

-- Return how many entries to read next: as many as exceed a limit, but few if none may have to be dropped, and not more
-- than Lua's stack can take as arguments of one call.
local function step(excess, left)
    return math.max(1, math.min(excess, left, 100))
end

-- Remove the update ids of dropped entries from the hash, except ids that newer entries also have.
local function forget(entries, names)
    local known, forgotten = redis.call('HMGET', ids, unpack(names)), {}
    for i, entry in ipairs(entries) do
        if known[i] == entry then
            forgotten[#forgotten + 1] = names[i]
        elseif known[i] and string.find(known[i], ' ', 1, true) then
            drop_earliest(names[i], entry)
        end
    end
    if #forgotten > 0 then redis.call('HDEL', ids, unpack(forgotten)) end
end

-- Drop the oldest entries until the others are within the limits; at most `left` entries.
local function drop(state, bounds, left)
    while left > 0 and state.count > 0 do
        local size = step(state.count - bounds.count, left)
        local page = redis.call('XRANGE', stream, '(' .. state.floor, '+', 'COUNT', size)
        if #page == 0 then return end
        local entries, names = {}, {}
        for _, entry in ipairs(page) do
            if state.count <= bounds.count and state.bytes <= bounds.bytes and parts(entry[1]) > bounds.oldest then
                left = 0
                break
            end
            local bytes = size_of(entry)
            state.floor = entry[1]
            state.count, state.bytes = state.count - 1, state.bytes - bytes
            state.gone, state.gone_bytes = state.gone + 1, state.gone_bytes + bytes
            entries[#entries + 1], names[#names + 1] = entry[1], field(entry, 'id') or ''
        end
        if #entries > 0 then forget(entries, names) end
        left = left - #page
    end
end

-- Remove dropped entries from the stream, if they exceed the limits for late followers; at most `left` entries.
local function remove(state, bounds, left)
    local late = bounds.now - LATE_AGE
    while left > 0 and state.gone > 0 do
        local size = step(state.gone - LATE_COUNT, math.min(left, state.gone))
        local page = redis.call('XRANGE', stream, '-', '+', 'COUNT', size)
        if #page == 0 then return end
        local removed = {}
        for _, entry in ipairs(page) do
            if state.gone <= LATE_COUNT and state.gone_bytes <= LATE_BYTES and parts(entry[1]) > late then
                left = 0
                break
            end
            removed[#removed + 1] = entry[1]
            state.gone, state.gone_bytes = state.gone - 1, state.gone_bytes - size_of(entry)
        end
        if #removed > 0 then redis.call('XDEL', stream, unpack(removed)) end
        left = left - #page
    end
end

local function trim(state, bounds, steps)
    if state.unsure or redis.call('XLEN', stream) ~= state.count + state.gone then recount(state) end
    drop(state, bounds, steps)
    remove(state, bounds, steps)
end

local function bounds()
    return {
        now = tonumber(ARGV[2]),
        oldest = tonumber(ARGV[3]),
        count = tonumber(ARGV[4]),
        bytes = tonumber(ARGV[5]),
        retained = tonumber(ARGV[6]),
        retained_bytes = tonumber(ARGV[7]),
    }
end

local function next_id(state, now)
    local time, number = parts(state.last)
    if now > time then return string.format('%d-0', now) end
    return string.format('%d-%d', time, number + 1)
end

local function is_held(state, entry, oldest)
    return is_before(state.floor, entry) and parts(entry) > oldest
end

-- Return the earliest held entry with an update id, or nothing.
local function earliest_held(state, id, oldest)
    local entry, newest = entries_of(redis.call('HGET', ids, id))
    if not entry or not is_held(state, newest, oldest) then return end
    while entry ~= newest and not is_held(state, entry, oldest) do
        -- The entry is dropped, or so old that it will be.
        local next = redis.call('HGET', ids, '\0' .. entry)
        entry = is_id(next) and is_before(entry, next) and next or newest
    end
    local found = exists(entry)
    if found and field(found, 'id') == id then return entry end
end

-- Whether an entry has the fields of an update, apart from `after`.
local function is_equal(found, fields)
    local stored = found[2]
    for i = 3, #fields do
        if stored[i] ~= fields[i] then return false end
    end
    for i = #fields + 1, #stored, 2 do
        if stored[i] ~= 'again' and stored[i] ~= 'more' then return false end
    end
    return true
end

-- Add an entry to the stream. Return its id, or an error.
local function add(state, now, fields)
    local entry = redis.pcall('XADD', stream, next_id(state, now), unpack(fields))
    if type(entry) == 'table' and string.find(entry.err, 'equal or smaller') then
        -- Another program has added an entry with a greater id.
        return redis.call('XADD', stream, '*', unpack(fields))
    end
    return entry
end

local commands = {}

-- Retained updates.
--
-- {key}:retained            a hash. A field is a topic and a key, separated by the byte 0xFF, which UTF-8 never
--                           contains. Its value has, separated by 0xFF too: a checksum of the field and of the rest of
--                           the value; the entry of the update; when it expires, in seconds since 1970, or nothing; its
--                           size in bytes; 1 if it is private; which of the update's topics this is, from 0; `=` and
--                           its owner, or nothing; its type, retry time and data.
-- {key}:retained:by_expiry  a sorted set of the fields that expire, by when they do.
--
-- The totals in {key}:meta are the numbers of members of both, the sum of the sizes, and a checksum of this. If they do
-- not match, or a value turns out to be damaged, damaged values are removed, and the others are counted anew.

local retained = KEYS[6]
local retained_by_expiry = KEYS[7]

-- How many members one step removes, and how many fields one command takes; and about how many bytes one page has.
local SOME_FIELDS, PAGE_BYTES = 100, 1024 * 1024

-- By how many seconds the time of an entry may be after that of the caller. Another program may have added an entry
-- from the future, after which those of all new entries are.
local MAX_SKEW = 60

-- Why an update is not appended: no room, or no retained update that it removes.
local FULL, NOT_RETAINED = 1, 2

local function short_sum(text)
    return string.sub(redis.sha1hex(text), 1, 16)
end

local function retained_text(field, rest)
    return short_sum(field .. '\255' .. rest) .. '\255' .. rest
end

-- Return the size of a value of the hash, and when it expires if it does; or nothing if it is damaged.
local function size_and_expiry(field, value)
    local rest = string.sub(value, 18)
    if retained_text(field, rest) ~= value then return end
    local expires, size = string.match(rest, '^[^\255]*\255([^\255]*)\255(%d+)\255')
    if not size or #size > 15 then return end
    if expires == '' then return tonumber(size) end
    local time = tonumber(expires)
    if time and time == time then return tonumber(size), time end
end

local function totals_of(held)
    local totals = string.format('%.0f %.0f %.0f', held.count, held.expiring, held.bytes)
    return totals .. ' ' .. short_sum(totals)
end

-- Return the totals of the retained updates: their number, how many of them expire, and their bytes.
local function load_retained(within)
    local totals = redis.call('HGET', meta, 'retained') or totals_of({ count = 0, expiring = 0, bytes = 0 })
    local held = { now = within.now / 1000, max_count = within.retained, max_bytes = within.retained_bytes }
    held.count, held.expiring = redis.call('HLEN', retained), redis.call('ZCARD', retained_by_expiry)
    held.bytes = tonumber(string.match(totals, '^%d+ %d+ (%d+) ') or '')
    held.unsure = not held.bytes or totals_of(held) ~= totals
    return held
end

local function save_retained(held)
    redis.call('HSET', meta, 'retained', totals_of(held))
end

local function remove_retained(fields)
    for i = 1, #fields, SOME_FIELDS do
        local last = math.min(i + SOME_FIELDS - 1, #fields)
        redis.call('HDEL', retained, unpack(fields, i, last))
        redis.call('ZREM', retained_by_expiry, unpack(fields, i, last))
    end
end

-- Remove damaged values, build the sorted set anew, and count all.
local function recount_retained(held)
    -- A field may be scanned twice if the hash is resized.
    local cursor, seen, damaged = '0', {}, {}
    held.unsure, held.recounted, held.count, held.expiring, held.bytes = false, true, 0, 0, 0
    redis.call('DEL', retained_by_expiry)
    repeat
        local page = redis.call('HSCAN', retained, cursor, 'COUNT', 1000)
        cursor = page[1]
        for i = 1, #page[2], 2 do
            local field = page[2][i]
            local size, expires = size_and_expiry(field, page[2][i + 1])
            if not size then
                damaged[#damaged + 1] = field
            elseif not seen[field] then
                seen[field] = true
                held.count, held.bytes = held.count + 1, held.bytes + size
                if expires then
                    held.expiring = held.expiring + 1
                    redis.call('ZADD', retained_by_expiry, expires, field)
                end
            end
        end
    until cursor == '0'
    remove_retained(damaged)
end

-- Return the size of the retained update of a field, and when it expires; or nothing. A damaged one is removed.
local function look_up_retained(held, field)
    local value = redis.call('HGET', retained, field)
    if not value then return end
    local size, expires = size_and_expiry(field, value)
    if not size then recount_retained(held) end
    return size, expires
end

-- Remove the retained update of a field, if there is one.
local function unretain(held, field)
    local size, expires = look_up_retained(held, field)
    if not size then return end
    remove_retained({ field })
    held.count, held.bytes = held.count - 1, held.bytes - size
    if expires then held.expiring = held.expiring - 1 end
end

-- Remove some of the retained updates that have expired. Return whether more may have.
local function remove_expired_step(held)
    local fields = redis.call('ZRANGE', retained_by_expiry, '-inf', held.now, 'BYSCORE', 'LIMIT', 0, SOME_FIELDS)
    if #fields == 0 then return false end
    for _, field in ipairs(fields) do
        local size, expires = look_up_retained(held, field)
        if size and expires and expires <= held.now then
            unretain(held, field)
        elseif not held.recounted then
            -- Another program has changed the sorted set or the hash.
            recount_retained(held)
        end
    end
    return true
end

local function tidy_retained(held)
    if held.unsure then recount_retained(held) end
    return remove_expired_step(held)
end

-- Return why an update cannot be retained, or cannot remove; or nothing. `changed` has the changes by earlier updates
-- of its batch, which are not recorded yet; those by this update are added.
local function refusal(held, changed, update)
    local has_removed, is_new, grows = false, false, false
    for _, topic in ipairs(update.topics) do
        local field = topic .. '\255' .. update.key
        local before = changed.sizes[field]
        if not before then
            local size, expires = look_up_retained(held, field)
            before = size and (not expires or expires > held.now) and size or 0
        end
        local after = update.removes and 0 or update.size + #topic
        has_removed, is_new, grows = has_removed or before > 0, is_new or before == 0, grows or after > before
        changed.sizes[field] = after
        changed.bytes = changed.bytes + after - before
        if before == 0 and after > 0 then changed.count = changed.count + 1 end
        if before > 0 and after == 0 then changed.count = changed.count - 1 end
    end
    if update.removes then return not has_removed and NOT_RETAINED or nil end
    local function is_full()
        return (is_new and held.count + changed.count > held.max_count)
            or (grows and held.bytes + changed.bytes > held.max_bytes)
    end
    -- The totals still count those that have expired and are not removed.
    while is_full() do
        if not remove_expired_step(held) then return FULL end
    end
end

local function no_changes()
    return { sizes = {}, count = 0, bytes = 0 }
end

-- Retain an update, or remove what it removes, under all of its topics. It expires by the time of its entry, so that
-- all nodes use the same time.
local function apply_retention(held, update)
    local begin = parts(update.entry) / 1000
    if begin > held.now + MAX_SKEW then begin = held.now end
    for i, topic in ipairs(update.topics) do
        local field = topic .. '\255' .. update.key
        unretain(held, field)
        if not update.removes then
            local expires = update.seconds and begin + update.seconds
            local size = update.size + #topic
            local rest = table.concat({
                update.entry, expires and string.format('%.17g', expires) or '', string.format('%.0f', size),
                update.private, i - 1, update.owner, update.event, update.retry, update.data
            }, '\255')
            redis.call('HSET', retained, field, retained_text(field, rest))
            held.count, held.bytes = held.count + 1, held.bytes + size
            if expires then
                redis.call('ZADD', retained_by_expiry, expires, field)
                held.expiring = held.expiring + 1
            end
        end
    end
end

-- Return the update whose arguments begin at an index: its id, the fields of its entry, and, if it is retained or
-- removes a retained one, how; and the index of the next update.
local function update_at(i)
    local given = ARGV[i + 6]
    local fields = {
        'after', '', 'id', ARGV[i], 'topics', ARGV[i + 1], 'data', ARGV[i + 5], 'crc', ARGV[i + 7]
    }
    for j, name in ipairs({ 'event', 'retry', 'private' }) do
        if string.sub(given, j, j) == '1' then
            fields[#fields + 1], fields[#fields + 2] = name, ARGV[i + 1 + j]
        end
    end
    local update = { id = ARGV[i], fields = fields }
    if #given == 3 then return update, i + 8 end
    local retain = ARGV[i + 8]
    fields[#fields + 1], fields[#fields + 2] = 'retain', retain
    local key, seconds, owner = string.match(retain, '^([^\255]*)\255([^\255]*)\255(.*)$')
    update.key, update.seconds, update.owner = key, tonumber(seconds), owner
    update.topics, update.size = cjson.decode(ARGV[i + 1]), tonumber(ARGV[i + 9])
    update.removes = ARGV[i + 2] == 'unretain'
    update.event, update.retry, update.data = ARGV[i + 2], ARGV[i + 3], ARGV[i + 5]
    update.private = string.sub(given, 3, 3) == '1' and '1' or ''
    return update, i + 10
end

-- Look up the newest entry with an update's id. If both are equal, set the update's `entry`, and the update need not be
-- stored.
local function look_up(state, within, update)
    local known = redis.call('HGET', ids, update.id)
    local _, newest = entries_of(known)
    local found = newest and exists(newest)
    if not found or field(found, 'id') ~= update.id then return end
    update.known = known
    if not is_held(state, newest, within.oldest) then return end
    if is_equal(found, update.fields) then
        update.entry = newest
    else
        update.again = true
    end
end

-- Store an update, with the field `more` if another one of its batch follows. Return an error, or nothing.
local function store(state, within, held, update, more)
    local fields = update.fields
    fields[2] = state.last
    if update.again then fields[#fields + 1], fields[#fields + 2] = 'again', '1' end
    if more then fields[#fields + 1], fields[#fields + 2] = 'more', '1' end
    local entry = add(state, within.now, fields)
    if type(entry) == 'table' then return entry end
    remember(update.id, entry, update.known)
    update.entry, state.last = entry, entry
    state.count, state.bytes = state.count + 1, state.bytes + size_of({ entry, fields })
    if update.key then apply_retention(held, update) end
end

-- Return the index of the first update of a batch that cannot be retained or cannot remove, from 0, and why; or
-- nothing. Updates that will not be stored, because they equal the newest one with their id, are not refused.
local function refusal_of_batch(state, within, held, updates)
    local newest, changed = {}, no_changes()
    for i, update in ipairs(updates) do
        local earlier, is_known = newest[update.id], false
        newest[update.id] = update
        if earlier then
            is_known = is_equal({ false, earlier.fields }, update.fields)
        elseif update.key then
            local looked_up = { id = update.id, fields = update.fields }
            look_up(state, within, looked_up)
            is_known = looked_up.entry
        end
        local refused = update.key and not is_known and refusal(held, changed, update)
        if refused then return { i - 1, refused } end
    end
end

-- Return the updates in the arguments, and whether any of them is retained or removes.
local function given_updates()
    local updates, retains, i = {}, false, 8
    while i <= #ARGV do
        local update
        update, i = update_at(i)
        updates[#updates + 1], retains = update, retains or update.key
    end
    return updates, retains
end

local function append(is_batch)
    local state, within = load(), bounds()
    local updates, retains = given_updates()
    local held = retains and load_retained(within)
    -- Trim first, so that a server without memory regains some.
    trim(state, within, 100)
    if held then tidy_retained(held) end
    local refused = is_batch and held and refusal_of_batch(state, within, held, updates)
    if refused then
        save(state)
        save_retained(held)
        return { state.floor, {}, refused }
    end
    -- In a batch, an update is stored only when it is known whether another one follows, for its field `more`.
    local last, failed = nil, nil
    refused = {}
    for i, update in ipairs(updates) do
        if last and last.id == update.id then
            if is_equal({ false, last.fields }, update.fields) then
                update, updates[i] = last, last
            else
                failed, last = store(state, within, held, last, true), nil
            end
        end
        if update ~= last then
            look_up(state, within, update)
            local reason = not is_batch and not update.entry and update.key and refusal(held, no_changes(), update)
            if reason then
                refused[#refused + 1], refused[#refused + 2] = i - 1, reason
                update.entry = '0-0'
            elseif not update.entry then
                if last then failed = failed or store(state, within, held, last, true) end
                last = update
                if not is_batch then failed, last = store(state, within, held, update), nil end
            end
        end
        if failed then break end
    end
    if last and not failed then failed = store(state, within, held, last) end
    if held then save_retained(held) end
    if failed then return failed end
    trim(state, within, 100 + #updates)
    save(state)
    local entries = {}
    for i, update in ipairs(updates) do entries[i] = update.entry end
    return { state.floor, entries, refused }
end

-- now, oldest, max_count, max_bytes, max_retained, max_retained_bytes; then for each update: id, topics, event, retry,
-- private, data, which of the optional fields are present, and the checksum; if the fourth of them is present, also
-- `retain` (key, seconds and owner, separated by 0xFF) and the size of the retained update without its topic.
--
-- Append updates. For an update that equals the newest one with its id, use the entry of that one. Return the floor;
-- the entry of each update, 0-0 if it was refused; and for each refused one its index, from 0, and the reason.
function commands.append() return append(false) end

-- The same arguments. Append the updates as one batch. If one of them is refused, append none; return the floor, no
-- entries, and the index of the refused one and the reason.
function commands.append_many() return append(true) end

-- now, oldest, max_count, max_bytes, max_retained, max_retained_bytes. Drop and remove old entries, and retained
-- updates that have expired. Return whether more may have to be dropped or removed.
function commands.tidy()
    local state, within = load(), bounds()
    local floor, gone = state.floor, state.gone
    local held = load_retained(within)
    trim(state, within, 1000)
    local more = tidy_retained(held)
    if more or held.recounted then save_retained(held) end
    if state.floor ~= floor or state.gone ~= gone or state.recounted then
        save(state)
        more = true
    end
    return more and 1 or 0
end

-- cursor, about how many fields to scan. Return the newest entry ever stored; the next cursor, 0 at the end; and fields
-- with their values, some of which may have expired. Fewer are scanned if they are large.
function commands.retained()
    local held = load_retained({ now = 0 })
    local count = tonumber(ARGV[3])
    if not held.unsure and held.bytes > 0 then
        count = math.max(1, math.min(count, math.floor(PAGE_BYTES * held.count / held.bytes)))
    end
    local page = redis.call('HSCAN', retained, ARGV[2], 'COUNT', count)
    return { load().last, page[1], page[2] }
end

-- oldest, id. Return the earliest held entry with an update id.
function commands.find()
    return earliest_held(load(), ARGV[3], tonumber(ARGV[2])) or false
end

-- oldest, an entry's id. Return the entry, if it is held.
function commands.at()
    return is_held(load(), ARGV[3], tonumber(ARGV[2])) and exists(ARGV[3]) or false
end

-- oldest, from, to, bytes, count. Return whether entries are missing after `from`, whether more entries up to `to` may
-- follow, and entries.
function commands.read()
    local state, oldest, from, to = load(), tonumber(ARGV[2]), ARGV[3], ARGV[4]
    local missed = is_before(from, state.floor)
    local start = missed and state.floor or from
    if not missed and is_before(state.floor, from) and not exists(from) then
        -- Another program has removed the entry `from`, and maybe the entries after it.
        local first = first_after(from)
        local before = first and field(first, 'after')
        missed = is_before(from, is_id(before) and before or state.last)
    end
    if oldest >= 0 and is_before(start, oldest .. '-18446744073709551615') then
        local last_old = oldest .. '-18446744073709551615'
        missed = missed or #redis.call('XRANGE', stream, '(' .. start, last_old, 'COUNT', 1) > 0
        start = last_old
    end
    local entries, size, max_size, max_count = {}, 0, tonumber(ARGV[5]), tonumber(ARGV[6])
    while true do
        local page = redis.call('XRANGE', stream, '(' .. start, to, 'COUNT', 16)
        if #page == 0 then return { missed and 1 or 0, 0, entries } end
        for _, entry in ipairs(page) do
            entries[#entries + 1] = entry
            size = size + size_of(entry)
            start = entry[1]
            if size >= max_size or #entries >= max_count then return { missed and 1 or 0, 1, entries } end
        end
    end
end

-- A new secret. Return the secret of the journal. If that does not exist, or has another length, set the new one.
function commands.secret()
    local known = redis.call('HGET', meta, 'secret')
    if not known or #known ~= #ARGV[2] then
        redis.call('HSET', meta, 'secret', ARGV[2])
        known = ARGV[2]
    end
    return known
end

-- now, data. Test whether `append` works with so much data: make the same writes, and undo them. A server may accept
-- less data, or other commands, and refuse these. The command does not trim first, because after a script's first write
-- a server without memory no longer refuses its other writes.
function commands.probe()
    local entry = add(load(), tonumber(ARGV[2]), { 'probe', ARGV[3] })
    if type(entry) == 'table' then return entry end
    -- No update has an empty id.
    redis.call('HSET', ids, '', entry)
    redis.call('HDEL', ids, '')
    redis.call('XDEL', stream, entry)
end

-- An entry's id. Return `last`, `floor`, and the id of the update in the entry.
function commands.look()
    local state = load()
    local entry = exists(ARGV[2])
    return { state.last, state.floor, entry and field(entry, 'id') or false }
end

-- Revoked tokens.
--
-- {key}:revocations            a hash. A field is the claim and the value of the tokens, separated by the byte 0xFF,
--                              which UTF-8 never contains. Its value has, separated by spaces, when they were revoked
--                              and when the last of them expires, in seconds since 1970; and a checksum of all this.
-- {key}:revocations:by_expiry  a sorted set of these fields, by when the last token expires.

local revocations = KEYS[5]
local by_expiry = revocations .. ':by_expiry'

-- How many expired revocations one command removes.
local EXPIRED_COUNT = 1000

local function sum_of(field, at, expires)
    return string.sub(redis.sha1hex(field .. ' ' .. at .. ' ' .. expires), 1, 16)
end

-- Return the two times of a value of the hash, or nothing if it is missing or damaged.
local function times_of(field, value)
    local at, expires, sum = string.match(value or '', '^(%S+) (%S+) (%S+)$')
    if at and sum == sum_of(field, at, expires) and tonumber(at) and tonumber(expires) then return at, expires end
end

local function later(one, other)
    return tonumber(one) < tonumber(other) and other or one
end

local function remove_revocations(fields)
    for i = 1, #fields, SOME_FIELDS do
        local last = math.min(i + SOME_FIELDS - 1, #fields)
        redis.call('HDEL', revocations, unpack(fields, i, last))
        redis.call('ZREM', by_expiry, unpack(fields, i, last))
    end
end

-- Build the sorted set anew if it does not have the fields of the hash, because another program has changed one of
-- them. A damaged revocation is removed, because it is not known when it expires.
local function repair_revocations()
    if redis.call('ZCARD', by_expiry) == redis.call('HLEN', revocations) then return end
    redis.call('DEL', by_expiry)
    local cursor = '0'
    repeat
        local page = redis.call('HSCAN', revocations, cursor, 'COUNT', 1000)
        cursor = page[1]
        for i = 1, #page[2], 2 do
            local field = page[2][i]
            local _, expires = times_of(field, page[2][i + 1])
            if expires then
                redis.call('ZADD', by_expiry, expires, field)
            else
                redis.call('HDEL', revocations, field)
            end
        end
    until cursor == '0'
end

local function remove_expired(now)
    remove_revocations(redis.call('ZRANGE', by_expiry, '-inf', now, 'BYSCORE', 'LIMIT', 0, EXPIRED_COUNT))
end

-- now in seconds, a field, its two times, the maximum number. Record a revocation; if its field exists and has not
-- expired, the later times count. Return 0 if the maximum number of others are recorded, otherwise 1.
function commands.revoke()
    local field, at, expires = ARGV[3], ARGV[4], ARGV[5]
    repair_revocations()
    remove_expired(ARGV[2])
    local known = redis.call('HGET', revocations, field)
    if known then
        local known_at, known_expires = times_of(field, known)
        if known_at and tonumber(known_expires) > tonumber(ARGV[2]) then
            at, expires = later(at, known_at), later(expires, known_expires)
        end
    elseif redis.call('HLEN', revocations) >= tonumber(ARGV[6]) then
        return 0
    end
    redis.call('HSET', revocations, field, at .. ' ' .. expires .. ' ' .. sum_of(field, at, expires))
    redis.call('ZADD', by_expiry, expires, field)
    return 1
end

-- now in seconds, cursor, about how many fields to scan. Remove expired revocations. Return the next cursor, 0 at the
-- end; and fields with their values, some of which may have expired.
function commands.revocations()
    remove_expired(ARGV[2])
    return redis.call('HSCAN', revocations, ARGV[3], 'COUNT', ARGV[4])
end

-- Test whether `revoke` works: make the same writes, and undo them. No revocation has an empty field.
function commands.probe_revocations()
    redis.call('HSET', revocations, '', '')
    redis.call('ZADD', by_expiry, 0, '')
    remove_revocations({ '' })
end

-- The cluster.
--
-- {key}:nodes                  a sorted set of the nodes that are alive, by the time when their last heartbeat expires,
--                              in milliseconds.
-- {key}:nodes:<node>:counts    a hash: the number of subscribers of each topic, and under * the number of all.
-- {key}:nodes:<node>:metadata  a hash: the texts that the node shows the others, by name.
-- {key}:nodes:<node>:inbox     a stream: messages with `message`, `token` and `from`, and acknowledgements of the
--                              node's own messages with `token`, `from`, `failed` and,
--                              if the node replied, `reply`.
-- {key}:nodes:<node>:held      a set: the groups and names that the node holds, or is responsible for.
-- {key}:nodes:<node>:over      a set: those of them that it is responsible for, and that no node held any more.
-- {key}:nodes:names:<group>    a hash from a name to the node that is responsible for it, and the nodes that hold it
--                              with their counts, as `node other:2 another:1`.
-- {key}:nodes:holders          a set: the nodes that have names, also those that have ended, until others have taken
--                              their names over. These four do not expire.
-- {key}:nodes:messages         how many messages have been sent to all nodes.

local nodes = KEYS[4]
local messages = nodes .. ':messages'
local holders = nodes .. ':holders'

-- The maximum number of entries in an inbox, which limits the memory for a node that does not read it.
local INBOX_COUNT = 1000

local function counts_of(node) return nodes .. ':' .. node .. ':counts' end
local function metadata_of(node) return nodes .. ':' .. node .. ':metadata' end
local function inbox_of(node) return nodes .. ':' .. node .. ':inbox' end

local function names_in(group) return nodes .. ':names:' .. group end
local function held_by(node) return nodes .. ':' .. node .. ':held' end
local function over_of(node) return nodes .. ':' .. node .. ':over' end

-- Return a node that holds names and has ended, or nothing.
local function ended_holder(now)
    for _, node in ipairs(redis.call('SMEMBERS', holders)) do
        if tonumber(redis.call('ZSCORE', nodes, node) or '0') <= now then return node end
    end
end

local function other_nodes(now, node)
    redis.call('ZREMRANGEBYSCORE', nodes, '-inf', now)
    local found = redis.call('ZRANGE', nodes, 0, -1)
    for i = #found, 1, -1 do
        if found[i] == node then table.remove(found, i) end
    end
    return found
end

-- now, node, lifetime, whether to replace all data; then topics and their numbers of subscribers. Record a heartbeat.
-- Return whether the server had counts, and metadata, of the node before; whether the node counted as alive; how many
-- messages have been sent to all nodes; how many of the node's names no node holds any more; and whether nodes that
-- have ended hold names.
function commands.heartbeat()
    local now, node, lifetime = tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4])
    local counts, metadata = counts_of(node), metadata_of(node)
    local expiry = tonumber(redis.call('ZSCORE', nodes, node) or '0')
    local there = {
        redis.call('EXISTS', counts), redis.call('EXISTS', metadata), expiry > now and 1 or 0,
        tonumber(redis.call('GET', messages) or '0'),
        redis.call('SCARD', over_of(node)), ended_holder(now) and 1 or 0,
    }
    if ARGV[5] == '1' then redis.call('DEL', counts, metadata) end
    for i = 6, #ARGV, 2 do
        if ARGV[i + 1] == '0' then
            redis.call('HDEL', counts, ARGV[i])
        else
            redis.call('HSET', counts, ARGV[i], ARGV[i + 1])
        end
    end
    redis.call('PEXPIRE', counts, lifetime)
    redis.call('PEXPIRE', metadata, lifetime)
    redis.call('PEXPIRE', inbox_of(node), lifetime)
    redis.call('ZADD', nodes, now + lifetime, node)
    return there
end

-- node. Remove the node and its data.
function commands.leave()
    redis.call('DEL', counts_of(ARGV[2]), metadata_of(ARGV[2]), inbox_of(ARGV[2]))
    redis.call('ZREM', nodes, ARGV[2])
    if redis.call('SCARD', held_by(ARGV[2])) == 0 then
        redis.call('SREM', holders, ARGV[2])
        redis.call('DEL', over_of(ARGV[2]))
    end
end

-- now, node, topic. Return the number of subscribers of a topic at the other nodes.
function commands.count_subscribers()
    local sum = 0
    for _, node in ipairs(other_nodes(ARGV[2], ARGV[3])) do
        sum = sum + (tonumber(redis.call('HGET', counts_of(node), ARGV[4]) or '0') or 0)
    end
    return sum
end

-- node, lifetime; then names and their texts. Store texts of the node; an empty text deletes the name.
function commands.put_metadata()
    local metadata = metadata_of(ARGV[2])
    for i = 4, #ARGV, 2 do
        if ARGV[i + 1] == '' then
            redis.call('HDEL', metadata, ARGV[i])
        else
            redis.call('HSET', metadata, ARGV[i], ARGV[i + 1])
        end
    end
    redis.call('PEXPIRE', metadata, ARGV[3])
end

-- now, node. Return the other nodes that are alive.
function commands.other_nodes()
    return other_nodes(ARGV[2], ARGV[3])
end

-- node, name. Return the text of the node with this name.
function commands.metadata_of()
    return redis.call('HGET', metadata_of(ARGV[2]), ARGV[3])
end

-- node, cursor, pattern, about how many names to scan. Return the next cursor, 0 at the end; and the matching names
-- with their texts.
function commands.metadata()
    return redis.call('HSCAN', metadata_of(ARGV[2]), ARGV[3], 'MATCH', ARGV[4], 'COUNT', ARGV[5])
end

-- now, lifetime, node, token, message. Send a message to all nodes. Return them. A node whose inbox is full does not
-- receive the message, and so does not acknowledge it.
function commands.broadcast()
    local node = ARGV[4]
    local found = other_nodes(ARGV[2], node)
    found[#found + 1] = node
    redis.call('INCR', messages)
    for _, each in ipairs(found) do
        local inbox = inbox_of(each)
        if redis.call('XLEN', inbox) < INBOX_COUNT then
            redis.call('XADD', inbox, '*', 'message', ARGV[6], 'token', ARGV[5], 'from', node)
            redis.call('PEXPIRE', inbox, ARGV[3])
        end
    end
    return found
end

-- now, lifetime, node; then for each message: its entry in the inbox, its sender, its token, whether the node
-- failed, whether it replies, and its reply. Remove the messages from the node's inbox, and send acknowledgements to their senders.
function commands.acknowledge()
    local node = ARGV[4]
    local alive = { [node] = true }
    for _, each in ipairs(other_nodes(ARGV[2], node)) do alive[each] = true end
    for i = 5, #ARGV, 6 do
        redis.call('XDEL', inbox_of(node), ARGV[i])
        if alive[ARGV[i + 1]] then
            local inbox = inbox_of(ARGV[i + 1])
            local fields = { 'token', ARGV[i + 2], 'from', node, 'failed', ARGV[i + 3] }
            if ARGV[i + 4] == '1' then fields[7], fields[8] = 'reply', ARGV[i + 5] end
            redis.call('XADD', inbox, '*', unpack(fields))
            redis.call('PEXPIRE', inbox, ARGV[3])
        end
    end
end

-- node; then entries of its inbox. Remove the entries, which the node has processed.
function commands.received()
    redis.call('XDEL', inbox_of(ARGV[2]), unpack(ARGV, 3))
end

-- The names that nodes hold. The reply for a name, to the node that registers it:
local SAME, NEW, OVER, LOST = 0, 1, 2, 3

-- A member of a set of names.
local function member_of(group, name) return #group .. ':' .. group .. name end

local function group_and_name(member)
    local length, rest = string.match(member, '^(%d+):(.*)$')
    length = tonumber(length)
    return string.sub(rest, 1, length), string.sub(rest, length + 1)
end

-- Return the node that is responsible for a name, and the counts of the nodes that hold it; or nothing.
local function read_name(group, name)
    local text = redis.call('HGET', names_in(group), name) or ''
    local counts = {}
    for node, count in string.gmatch(text, ' (%x+):(%d+)') do counts[node] = tonumber(count) end
    return string.match(text, '^%x+'), counts
end

local function write_name(group, name, owner, counts)
    local parts = { owner }
    for node, count in pairs(counts) do parts[#parts + 1] = node .. ':' .. count end
    redis.call('HSET', names_in(group), name, table.concat(parts, ' '))
end

local function delete_name(group, name, owner)
    redis.call('HDEL', names_in(group), name)
    redis.call('SREM', held_by(owner), member_of(group, name))
    redis.call('SREM', over_of(owner), member_of(group, name))
end

local function hold(node, group, name, count)
    local owner, counts = read_name(group, name)
    local is_new = not owner
    owner = owner or node
    counts[node] = count
    write_name(group, name, owner, counts)
    redis.call('SADD', held_by(node), member_of(group, name))
    redis.call('SADD', holders, node)
    return owner, is_new
end

-- Release a name. Return whether the node was responsible for it, and no node holds it any more.
local function release(node, group, name)
    local owner, counts = read_name(group, name)
    if not owner then return true end
    counts[node] = nil
    if owner ~= node then redis.call('SREM', held_by(node), member_of(group, name)) end
    if next(counts) then
        write_name(group, name, owner, counts)
        return false
    end
    if owner == node then
        delete_name(group, name, owner)
        return true
    end
    -- The node that is responsible learns it with its next heartbeat, unless a node holds the name again.
    write_name(group, name, owner, counts)
    redis.call('SADD', over_of(owner), member_of(group, name))
    return false
end

-- node; then for each name: its group, the name, its count or nothing to release it, and what the node believes: 2, it
-- is responsible; 1, it holds the name already; 0, neither. Return what has changed for the node, for each name.
function commands.register()
    local node, replies = ARGV[2], {}
    for i = 3, #ARGV, 4 do
        local group, name, count, belief = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
        local reply = SAME
        if count == '' then
            local is_over = release(node, group, name)
            if belief == '2' then
                if is_over then
                    reply = OVER
                elseif read_name(group, name) ~= node then
                    reply = LOST
                end
            end
        else
            local owner = hold(node, group, name, count)
            if owner == node and belief ~= '2' then
                reply = NEW
            elseif owner ~= node and belief == '2' then
                reply = LOST
            end
        end
        replies[#replies + 1] = reply
    end
    return replies
end

-- now, node, how many. Take over names of a node that has ended. Return whether more are left; and for each name its
-- group, the name, whether the node is now responsible for it, and whether it holds it.
function commands.take_over()
    local now, node = tonumber(ARGV[2]), ARGV[3]
    local ended = ended_holder(now)
    if not ended or ended == node then return { 0, {} } end
    local found = {}
    for _, member in ipairs(redis.call('SPOP', held_by(ended), ARGV[4])) do
        local group, name = group_and_name(member)
        local owner, counts = read_name(group, name)
        if owner then
            local was_held = counts[ended]
            counts[ended] = nil
            -- A name that no node holds would have no end: the node holds it until its hub releases it.
            if was_held or not next(counts) then counts[node] = counts[node] or 0 end
            local is_responsible = owner == ended or owner == node
            if owner == ended then owner = node end
            write_name(group, name, owner, counts)
            if is_responsible or counts[node] then redis.call('SADD', held_by(node), member) end
            found[#found + 1] = group
            found[#found + 1] = name
            found[#found + 1] = is_responsible and 1 or 0
            found[#found + 1] = counts[node] and 1 or 0
        end
    end
    redis.call('SADD', holders, node)
    if redis.call('SCARD', held_by(ended)) == 0 then
        redis.call('SREM', holders, ended)
        redis.call('DEL', over_of(ended))
    end
    return { ended_holder(now) and 1 or 0, found }
end

-- node, cursor, about how many names to scan. Return the next cursor, 0 at the end; and the names of the node, as
-- `take_over` does.
function commands.names_of()
    local node, found = ARGV[2], {}
    local page = redis.call('SSCAN', held_by(node), ARGV[3], 'COUNT', ARGV[4])
    for _, member in ipairs(page[2]) do
        local group, name = group_and_name(member)
        local owner, counts = read_name(group, name)
        found[#found + 1] = group
        found[#found + 1] = name
        found[#found + 1] = owner == node and 1 or 0
        found[#found + 1] = counts[node] and 1 or 0
    end
    return { page[1], found }
end

-- node, how many. Return the groups and names that the node is responsible for, and that no node holds any more.
function commands.names_over()
    local node, found = ARGV[2], {}
    for _, member in ipairs(redis.call('SRANDMEMBER', over_of(node), ARGV[3])) do
        local group, name = group_and_name(member)
        local owner, counts = read_name(group, name)
        if owner == node and not next(counts) then
            found[#found + 1] = group
            found[#found + 1] = name
        else
            redis.call('SREM', over_of(node), member)
        end
    end
    return found
end

-- node, group, cursor, about how many names to scan. Return the next cursor, 0 at the end; and the names that other
-- nodes hold, with the sums of their counts.
function commands.names()
    local page = redis.call('HSCAN', names_in(ARGV[3]), ARGV[4], 'COUNT', ARGV[5])
    local found = {}
    for i = 1, #page[2], 2 do
        local sum
        for node, count in string.gmatch(page[2][i + 1], ' (%x+):(%d+)') do
            if node ~= ARGV[2] then sum = (sum or 0) + tonumber(count) end
        end
        if sum then
            found[#found + 1] = page[2][i]
            found[#found + 1] = sum
        end
    end
    return { page[1], found }
end

return commands[ARGV[1]]()
