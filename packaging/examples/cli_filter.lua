-- Tells users at submission what --segment does for the number of trays that they ask for; a site can require it.
--
-- In slurm.conf: CliFilterPlugins=cli_filter/lua. This file lies beside slurm.conf as cli_filter.lua wherever jobs are
-- submitted. It works with the numbers below alone: slurmctld is asked nothing. It is help, no fence: jobs that come by
-- another way than sbatch, salloc and srun do not pass here.

-- Trays of the largest NVLink partition: 18 in an unsplit NVL72 rack.
local trays_in_partition = 18

-- Whether a job of more trays than that needs --segment.
local segment_required = false

-- The Slurm partitions of the trays, for example { "nvlink", "spare" }; nil for all. A job that names none counts.
local slurm_partitions = nil

-- Whether the job is one of trays.
local function is_for_trays(partition)
    if slurm_partitions == nil or partition == nil then
        return true
    end
    for name in partition:gmatch("[^,]+") do
        for _, known in ipairs(slurm_partitions) do
            if name == known then
                return true
            end
        end
    end
    return false
end

-- Segment sizes of a job, the largest first: they divide it, and fit an NVLink partition.
local function segments(trays)
    local sizes = {}
    for size = math.min(trays, trays_in_partition), 2, -1 do
        if trays % size == 0 then
            table.insert(sizes, size)
        end
    end
    return sizes
end

-- The next larger job with a segment of half an NVLink partition or more.
local function roomier(trays)
    for more = trays + 1, trays + trays_in_partition do
        local size = segments(more)[1]
        if size and size * 2 >= trays_in_partition then
            return more, size
        end
    end
end

-- What is to be said about a job, line by line, and whether it may go on.
local function advice(trays, segment)
    if trays <= trays_in_partition then
        return {}, true
    end
    if segment then
        if segment <= trays_in_partition then
            return {}, true
        end
        local line = "--segment=%d: no NVLink partition has more than %d trays; such a job waits for ever"
        return { line:format(segment, trays_in_partition) }, not segment_required
    end
    local sizes = segments(trays)
    local lines = {
        ("%d trays are more than one NVLink partition has (%d): the job spans"):format(trays, trays_in_partition),
    }
    if sizes[1] then
        local line = "with --segment=%d each %d of them lie in one NVLink partition, wherever that many are free"
        table.insert(lines, line:format(sizes[1], sizes[1]))
        if sizes[2] then
            table.insert(lines, "smaller segments find room sooner: " .. table.concat(sizes, ", ", 2))
        end
    end
    if not sizes[1] or sizes[1] * 2 < trays_in_partition then
        local line = "%d trays have %s segment; %d can have --segment=%d"
        local more, size = roomier(trays)
        if more then
            table.insert(lines, line:format(trays, sizes[1] and "no large" or "no", more, size))
        end
    end
    if segment_required then
        table.insert(lines, "this site requires --segment for jobs of this size")
    end
    return lines, not segment_required
end

local function look_at(options)
    -- srun in a job starts a step, which stays in the job's trays.
    if options.type == "srun" and os.getenv("SLURM_JOB_ID") or not is_for_trays(options.partition) then
        return true
    end
    -- "32"; a range, or no number of nodes ("1-0"), leaves it to Slurm.
    local trays = tonumber((options.nodes or ""):match("^%d+$"))
    if not trays then
        return true
    end
    local lines, goes_on = advice(trays, tonumber(options.segment))
    for _, line in ipairs(lines) do
        if goes_on then
            slurm.log_info("%s", line)
        else
            slurm.log_error("%s", line)
        end
    end
    return goes_on
end

function slurm_cli_setup_defaults(options, early)
    return slurm.SUCCESS
end

function slurm_cli_pre_submit(options, offset)
    -- A mistake in here must not keep jobs out.
    local sound, goes_on = pcall(look_at, options)
    if sound and not goes_on then
        return slurm.ERROR
    end
    return slurm.SUCCESS
end

function slurm_cli_post_submit(offset, job, step)
    return slurm.SUCCESS
end
