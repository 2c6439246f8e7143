"""
Batch inverse-variance training: regression on labels whose noise variances are known.

    using BIV
    model, report = fit(x, y; variances = v)       # observations are the rows of x
    predictions, variances = predict_with_variance(model, x)

or, to choose everything oneself,

    data = Dataset(x, y; variances = v)
    model = Model(kind = "mlp", inputs = size(x, 2), hidden = [64, 32])
    trainer = Trainer(model, data; loss = (kind = "biv", epsilon = 0.1))
    fit!(trainer, 100)
    predict(model, x)

A table goes in as it is: `fit(table; labels = :income, std = :income_err)`. Options are keyword arguments, named tuples or
JSON texts, as biv.h documents them. What is not exported has the module's name before it: `BIV.labels(data)`.
A failure of the library is a [`BIVError`](@ref). Objects free themselves; `close` does it at once.
"""
module BIV

include("LibBIV.jl")
include("json.jl")
include("tables.jl")

using .LibBIV: Object

# Few names, and none that a program calls its own data: what is not exported is BIV.labels, BIV.save and so on.
export BIVError, Dataset, Model, Trainer
export fit, fit!, step!, predict, predict_with_variance, evaluate

const PUBLIC = (
    :read_csv, :read_named, :read_images, :synthetic, :add_noise, :split_rows, :subset, :shuffled, :append, :latest,
    :with_variances, :borrow, :from_dlpack, :predict_dlpack!, :features, :labels, :clean_labels, :variances, :info,
    :describe, :variance_model, :error_bars, :normalization, :set_normalization!, :reset_normalization!, :tensor, :tensor!,
    :set_data!, :set_validation!, :cancel!, :progress, :learning_rate, :learning_rate!, :model, :save, :load_model,
    :load_trainer, :export_model, :import_weights!, :loss, :sample_noise, :run_experiment, :run_sweep, :resolve, :version,
    :build_info, :set_log, :schema, :threads, :threads!, :cuda_devices,
)
VERSION >= v"1.11" && eval(Expr(:public, PUBLIC...))

"""
A failure of the library: `status`, such as `:SHAPE`; `message`: what was wrong, where, what would be right; and `field`, the
option that it is about, such as `"model.hidden[2]"`, or `nothing`.
"""
struct BIVError <: Exception
    status::Symbol
    message::String
    field::Union{String,Nothing}
end

function BIVError(status::Symbol, message::AbstractString)
    path = status == :INVALID_CONFIG ? match(r"^[\w.\[\]]+(?=: )", message) : nothing
    return BIVError(status, message, path === nothing ? nothing : String(path.match))
end

Base.showerror(io::IO, error::BIVError) = print(io, "BIVError(:", error.status, "): ", error.message)

function check(status::Integer)
    status == 0 && return
    name = replace(unsafe_string(LibBIV.biv_status_name(status)), "BIV_ERROR_" => "")
    throw(BIVError(Symbol(name), unsafe_string(LibBIV.biv_last_error_message_from_one())))
end

# Objects: each owns a handle of the library's, and frees it when it is collected.

for (type, free, doc) in (
    (:Dataset, :biv_dataset_free, "Features, labels and, where they are known, the variances of the labels' noise. It never changes."),
    (:Model, :biv_model_free, "A network with the normalisation of the data it was trained on."),
    (:Trainer, :biv_trainer_free, "Trains one model. It keeps what it needs of model and data."),
    (:Text, :biv_text_free, "A text of the library's."),
)
    @eval begin
        @doc $doc mutable struct $type
            handle::Object
            function $type(handle::Object)
                return finalizer(close, new(handle))
            end
        end

        "Frees the object at once. Using it afterwards is a `BIVError`; closing it again does nothing."
        function Base.close(object::$type)
            handle, object.handle = object.handle, C_NULL
            handle == C_NULL || LibBIV.$free(handle)
            return
        end

        Base.isopen(object::$type) = object.handle != C_NULL
    end
end

for type in (:Dataset, :Model, :Trainer)
    @eval begin
        Base.show(io::IO, object::$type) =
            print(io, $(string(type)), '(', isopen(object) ? join(facts(object), ", ") : "closed", ')')

        function Base.show(io::IO, ::MIME"text/plain", object::$type)
            show(io, object)
            isopen(object) || return
            for (name, value) in details(object)
                print(io, "\n  ", name, ": ", value)
            end
        end
    end
end

counted(number, name) = string(number, ' ', name, number == 1 ? "" : "s")

"A new object: `make` is given the place of its handle."
function create(::Type{T}, make) where {T}
    place = Ref{Object}(C_NULL)
    check(make(place))
    return T(place[])
end

"Calls `call` with the handles of `objects`, none of which is collected meanwhile."
using_handles(call, objects...) = GC.@preserve objects check(call((object === nothing ? C_NULL : object.handle for object in objects)...))

"A struct of the library's, filled by `fill`, as a named tuple."
function filled(::Type{T}, fill) where {T}
    bytes = zeros(UInt8, sizeof(T))
    place = Ref{T}()
    GC.@preserve place bytes begin
        pointer = Base.unsafe_convert(Ptr{T}, place)
        unsafe_copyto!(Ptr{UInt8}(pointer), Base.pointer(bytes), sizeof(T))
        unsafe_store!(Ptr{Csize_t}(pointer), sizeof(T))
        fill(place)
    end
    return named(place[])
end

named(value::T) where {T} = NamedTuple{fieldnames(T)[2:end]}(Tuple(getfield(value, name) for name in fieldnames(T)[2:end]))

options(text::AbstractString, fields) = isempty(fields) ? String(text) : throw(ArgumentError("give a JSON text or keyword arguments, not both"))
options(::Nothing, fields) = json(fields)

# Arrays: column-major memory is described by its strides, not copied.

const Numbers = Union{Float32,Float64}

memory(array::StridedArray{<:Numbers}) = array
memory(array::AbstractArray{<:Real}) = Array{Float64}(array)
memory(array::AbstractArray) = throw(ArgumentError("an array of real numbers is needed, not of $(eltype(array))"))

"""
Calls `call` with the description of `array`, whose dimension `obsdim` counts the observations:
it comes first, then the others in their order.
"""
function described(call, array::AbstractArray, obsdim::Integer)
    array = memory(array)
    1 <= obsdim <= ndims(array) || throw(ArgumentError("obsdim is $obsdim, the array has $(ndims(array)) dimensions"))
    order = [obsdim; setdiff(1:ndims(array), obsdim)]
    shape, steps = Int64[size(array, axis) for axis in order], Int64[stride(array, axis) for axis in order]
    dtype = eltype(array) == Float32 ? 1 : 2
    GC.@preserve array shape steps begin
        data = isempty(array) ? C_NULL : Ptr{Cvoid}(pointer(array))
        return call(Ref(LibBIV.biv_array(data, dtype, length(order), pointer(shape), pointer(steps), 0)))
    end
end
described(call, ::Nothing, ::Integer) = call(Ptr{LibBIV.biv_array}(C_NULL))

"An array of `shape`, observations first, that `copy` fills."
function copied(copy, shape)
    array = Array{Float64}(undef, shape...)
    described(place -> check(copy(place)), array, 1)
    return array
end

column(array) = size(array, 2) == 1 ? vec(array) : array

# Data sets.

"""
    Dataset(x, y; variances = nothing, std = nothing, groups = nothing, missing_labels = :error, columns = nothing,
            obsdim = 1)

Copies arrays of `Float32` or `Float64`: features `x` (`n × d`, or a vector, or images `n × channels × height × width`),
labels `y` (`n`, or `n × outputs`), and the variances or standard deviations of the labels' noise, shaped as `y`: in the
square of the labels' unit, or in their unit. As in tables, observations are rows; with `obsdim = 2` they are the columns
of matrices, as in Flux.

`groups` has an element for each observation, of any type: [`fit`](@ref) never trains on a part of a group and judges
itself by the rest. With `missing_labels = :mask`, a label that is `missing` or `NaN` is left out of training, statistics
and metrics, as is always one of infinite variance. `columns` are the names of the features, which a model that is trained
on them remembers.

A `BIVError` is `:SHAPE` for arrays that do not fit each other and `:INVALID_ARGUMENT` for values that are not allowed.
"""
function Dataset(x::AbstractArray, y::AbstractArray; variances=nothing, std=nothing, groups=nothing,
                 missing_labels=:error, columns=nothing, obsdim::Integer=1)
    variances === nothing || std === nothing || throw(ArgumentError("give variances or std, not both"))
    named_columns = columns === nothing ? NamedTuple() : (columns=columns,)
    settings = json((standard_deviations=std !== nothing, missing_labels=missing_labels, named_columns...))
    axis(array) = array === nothing || ndims(array) == 1 ? 1 : obsdim
    noise = std === nothing ? variances : std
    return described(x, axis(x)) do features
        described(with_nan(y), axis(y)) do labels
            described(noise, axis(noise)) do noise
                described(numbered(groups), 1) do groups
                    create(Dataset, place -> LibBIV.biv_dataset_create(features, labels, noise, groups, settings, place))
                end
            end
        end
    end
end

"""
    Dataset(table; labels, features = nothing, variances = nothing, std = nothing, groups = nothing, missing_labels = :error)

Of a table's columns, by name: `Dataset(table; labels = :income, std = :income_err)`. A table is a named tuple of vectors, a
vector of named tuples, and whatever Tables.jl calls one where a package has loaded it, such as a `DataFrame`. `labels`,
`variances` and `std` name a column or a list of them, `groups` one column. Features are the columns that `features` names,
else all that have no other role; they are numbers. [`predict`](@ref) finds them by their names.
"""
function Dataset(table; labels, features=nothing, variances=nothing, std=nothing, groups=nothing, missing_labels=:error)
    columns = table_columns(table)
    some(names) = names === nothing ? nothing : numbers(columns, listed(names))
    y = some(labels)
    roles = [listed(labels); listed(variances); listed(std); listed(groups)]
    names = features === nothing ? setdiff(keys(columns), roles) : listed(features)
    return Dataset(numbers(columns, names), y; variances=some(variances), std=some(std),
        groups=groups === nothing ? nothing : column_of(columns, Symbol(groups)), missing_labels=missing_labels,
        columns=names)
end

"Labels with `NaN` where one is `missing`."
with_nan(array) = Missing <: eltype(array) ? coalesce.(array, NaN) : array

"The groups' numbers: equal elements have one, in whatever data set. A `Float64` holds 53 bits of it."
numbered(::Nothing) = nothing
numbered(groups) = Float64[hash(group) >> 11 for group in groups]

# What was lent: a semaphore that the library posts when it needs the arrays no longer, and the arrays. It may do so on a
# thread that Julia does not know, so it is given the C function for that.
const LENT = Tuple{Ptr{Cvoid},Any}[]
const LENT_LOCK = ReentrantLock()

"Forgets the lent arrays that are no longer needed; the number of the others."
forget_lent() = lock(LENT_LOCK) do
    filter!(LENT) do (semaphore, _)
        ccall(:sem_trywait, Cint, (Ptr{Cvoid},), semaphore) == 0 || return true
        ccall(:sem_destroy, Cint, (Ptr{Cvoid},), semaphore)
        Libc.free(semaphore)
        return false
    end
    return length(LENT)
end

"""
    borrow(x, y; variances = nothing, groups = nothing, missing_labels = :error)

As [`Dataset`](@ref) with `obsdim = 2`, the observations being columns, but without a copy of `x` where it is an `Array` of
`Float32`, and of `y` and `variances` where they are `Array`s of `Float64`. They must not change while the data set, or one
that shares its memory, is in use; they are kept from the garbage collector until then.
"""
function borrow(x::AbstractArray, y::AbstractArray; variances=nothing, groups=nothing, missing_labels=:error)
    settings = json((missing_labels=missing_labels,))
    arrays = (memory(x), memory(with_nan(y)), variances === nothing ? nothing : memory(variances))
    numbers = numbered(groups)
    forget_lent()
    semaphore = Libc.calloc(1, 64)
    ccall(:sem_init, Cint, (Ptr{Cvoid}, Cint, Cuint), semaphore, 0, 0)
    lock(() -> push!(LENT, (semaphore, arrays)), LENT_LOCK)
    release = cglobal(:sem_post)
    return described(arrays[1], ndims(x)) do features
        described(arrays[2], ndims(y)) do labels
            described(arrays[3], variances === nothing ? 1 : ndims(variances)) do noise
                described(numbers, 1) do groups
                    create(Dataset, place -> LibBIV.biv_dataset_create_borrowed(
                        features, labels, noise, groups, release, semaphore, settings, place))
                end
            end
        end
    end
end

"""
    from_dlpack(x::Ptr, y::Ptr; noise = C_NULL, groups = C_NULL, stream = C_NULL, options...)

A data set of tensors by DLPack 1.x: pointers to `DLManagedTensorVersioned`, which are the library's from the call on. It
calls the deleter of each once, on any thread, when it needs its memory no longer. `stream` is the CUDA stream on which
tensors on a GPU are written.
"""
from_dlpack(x::Ptr, y::Ptr; noise::Ptr=C_NULL, groups::Ptr=C_NULL, stream::Ptr=C_NULL, fields...) = create(
    Dataset, place -> LibBIV.biv_dataset_create_from_dlpack(x, y, noise, groups, stream, options(nothing, fields), place))

"Predicts into the tensor `out`; both tensors are as for [`from_dlpack`](@ref), and are given back before it returns."
predict_dlpack!(model, x::Ptr, out::Ptr) =
    using_handles(handle -> LibBIV.biv_model_predict_dlpack(handle, x, out), model)

"Reads a CSV file: `read_csv(path; labels = [\"income\"], standard_errors = [\"moe\"], error_divisor = 1.645)`."
read_csv(path, json=nothing; fields...) =
    create(Dataset, place -> LibBIV.biv_dataset_create_from_csv(path, options(json, fields), place))

"Reads `:bike` (hour.csv) or `:wine` from its file or folder."
read_named(name, path) = create(Dataset, place -> LibBIV.biv_dataset_create_named(String(name), path, place))

"Reads a folder of images whose names begin with their labels: `read_images(folder; size = (height = 64, width = 64))`."
read_images(folder, json=nothing; fields...) =
    create(Dataset, place -> LibBIV.biv_dataset_create_from_images(folder, options(json, fields), place))

"Friedman's function: `synthetic(rows = 2000, features = 10, seed = 0)`."
synthetic(json=nothing; fields...) =
    create(Dataset, place -> LibBIV.biv_dataset_create_synthetic(options(json, fields), place))

"A copy with simulated label noise: `add_noise(data; distribution = (kind = \"gamma\", mean = 20, variance = 400), seed = 1)`."
add_noise(data::Dataset, json=nothing; fields...) = GC.@preserve data create(
    Dataset, place -> LibBIV.biv_dataset_add_noise(data.handle, options(json, fields), place))

"Two parts: `train, test = split_rows(data; train_size = 500, test_size = 100, seed = 1)`."
function split_rows(data::Dataset, json=nothing; fields...)
    test = Ref{Object}(C_NULL)
    train = GC.@preserve data create(
        Dataset, place -> LibBIV.biv_dataset_split(data.handle, options(json, fields), place, test))
    return train, Dataset(test[])
end

"The rows `rows`, counted from 1, in that order."
function subset(data::Dataset, rows)
    for row in rows
        1 <= row <= length(data) || throw(BoundsError(1:length(data), row))
    end
    indices = Int64[row - 1 for row in rows]
    return GC.@preserve data indices create(
        Dataset, place -> LibBIV.biv_dataset_subset(data.handle, pointer(indices), length(indices), place))
end

"All rows in a random order, which the seed determines."
shuffled(data::Dataset; seed=0) =
    GC.@preserve data create(Dataset, place -> LibBIV.biv_dataset_shuffle(data.handle, seed, place))

"""
    append(data, more)

The rows of `data` and then those of `more`, in shared memory: it takes time for the new rows only. Equal elements of
`groups` are one group.
"""
append(data::Dataset, more::Dataset) = GC.@preserve data more create(
    Dataset, place -> LibBIV.biv_dataset_append(data.handle, more.handle, place))

"The last `rows` rows, or all where there are no more, in shared memory: a window over data that keep coming."
function latest(data::Dataset, rows::Integer)
    rows >= 1 || throw(ArgumentError("rows is $rows, a data set needs at least one"))
    return GC.@preserve data create(Dataset, place -> LibBIV.biv_dataset_latest(data.handle, rows, place))
end

"""
    with_variances(data, variances)
    with_variances(data; std)

The same rows with other variances of the labels' noise, or standard deviations, shaped as the labels.
"""
function with_variances(data::Dataset, variances=nothing; std=nothing)
    (variances === nothing) == (std === nothing) && throw(ArgumentError("give variances or std"))
    settings = json((standard_deviations=std !== nothing,))
    return described(std === nothing ? variances : std, 1) do noise
        GC.@preserve data create(
            Dataset, place -> LibBIV.biv_dataset_with_variances(data.handle, noise, settings, place))
    end
end

"""
The sizes of a data set or model, as a named tuple. `masked_labels` of a data set are those that are missing or of
infinite variance.
"""
info(data::Dataset) =
    filled(LibBIV.biv_dataset_info, place -> using_handles(handle -> LibBIV.biv_dataset_get_info(handle, place), data))

Base.length(data::Dataset) = Int(info(data).rows)

"What `show` says of an object in a line, and what it adds in the REPL."
function facts(data::Dataset)
    sizes = info(data)
    known = sizes.has_variances == 1 ? "variances known" : "no variances"
    return [counted(sizes.rows, "row"), counted(sizes.features, "feature"), counted(sizes.outputs, "output"), known]
end

function details(data::Dataset)
    sizes, columns = info(data), describe(data)["columns"]
    found = Pair{String,Any}[]
    columns === nothing || push!(found, "features" => join(names_of(columns), ", "))
    sizes.masked_labels == 0 || push!(found, "masked labels" => sizes.masked_labels)
    sizes.left_out == 0 || push!(found, "left out" => sizes.left_out)
    return found
end

"The names of the columns of a data set or model."
names_of(columns) = [column["name"] for column in columns["features"]]

"The features, `n × d`: those of images flattened row-major."
function features(data::Dataset)
    sizes = info(data)
    if sizes.rows == 0
        return zeros(0, 0)
    end
    return GC.@preserve data copied(place -> LibBIV.biv_dataset_copy_features(data.handle, place), (sizes.rows, sizes.features))
end

for (name, copy, doc) in (
    (:labels, :biv_dataset_copy_labels, "The labels, `n`, or `n × outputs`."),
    (:clean_labels, :biv_dataset_copy_clean_labels, "The labels as they were before simulated noise."),
    (:variances, :biv_dataset_copy_variances, "The variances of the labels' noise, shaped as the labels."),
)
    @eval @doc $doc function $name(data::Dataset)
        sizes = info(data)
        return column(GC.@preserve data copied(place -> LibBIV.$copy(data.handle, place), (sizes.rows, sizes.outputs)))
    end
end

# Models.

"A network with initial weights: `Model(kind = \"mlp\", inputs = 10, hidden = [32, 16], seed = 0)`, or a JSON text."
Model(json::Union{Nothing,AbstractString}=nothing; fields...) =
    create(Model, place -> LibBIV.biv_model_create(options(json, fields), place))

"The model that [`save`](@ref) saved, to a file or as bytes, or the one in a trainer's checkpoint."
load_model(path::AbstractString) = create(Model, place -> LibBIV.biv_model_load(path, place))
load_model(bytes::Vector{UInt8}) = GC.@preserve bytes create(
    Model, place -> LibBIV.biv_model_load_from_memory(pointer(bytes), length(bytes), place))

"A model of its own with the same network, weights and normalisation."
Base.copy(model::Model) = GC.@preserve model create(Model, place -> LibBIV.biv_model_copy(model.handle, place))

"Writes a model for other programs, in the format that the path ends with: `.onnx` or `.safetensors`."
export_model(model::Model, path; fields...) =
    using_handles(handle -> LibBIV.biv_model_export(handle, path, options(nothing, fields)), model)

"""
Takes the weights of a safetensors file, as PyTorch saves it, by names and shapes: all, or on error none. With
`strict = false` those that both have. Returns what was `"imported"`, is `"missing"` and was `"left_over"`.
"""
import_weights!(model::Model, path; fields...) = GC.@preserve model read_text(create(
    Text, place -> LibBIV.biv_model_import_weights(model.handle, path, options(nothing, fields), place)))

info(model::Model) =
    filled(LibBIV.biv_model_info, place -> using_handles(handle -> LibBIV.biv_model_get_info(handle, place), model))

function facts(model::Model)
    sizes = info(model)
    return [counted(sizes.inputs, "input"), counted(sizes.outputs, "output"), counted(sizes.parameters, "parameter")]
end

function details(model::Model)
    said = describe(model)
    columns, bars = said["columns"], error_bars(model)
    found = Pair{String,Any}["kind" => said["options"]["kind"], "trained" => said["normalization"] === nothing ? "no" : "yes"]
    columns === nothing || push!(found, "features" => join(names_of(columns), ", "))
    bars === nothing || push!(found, "error bars" => string("scale ", bars.scale, ", tau2 ", bars.tau2))
    return found
end

# The bytes that a C function copies.
function copied_bytes(call, object)
    needed = Ref{Csize_t}(0)
    using_handles(handle -> call(handle, C_NULL, 0, needed), object)
    buffer = Vector{UInt8}(undef, needed[])
    GC.@preserve buffer using_handles(handle -> call(handle, pointer(buffer), length(buffer), needed), object)
    return buffer
end

# The text that a C function copies, as JSON.
copied_json(call, object) = parse_json(String(copied_bytes(call, object)[1:end-1]))

"What a model is: its options, the layers of its network, its tensors' names and shapes, its normalisation, error bars and columns."
describe(model::Model) = copied_json(LibBIV.biv_model_describe, model)

"What a trainer is: its options, its device, and the kernel that takes its steps."
describe(trainer::Trainer) = copied_json(LibBIV.biv_trainer_describe, trainer)

"What a data set's columns are called, and what was left out when it was read."
describe(data::Dataset) = copied_json(LibBIV.biv_dataset_describe, data)

"A copy of the tensor `name`, its dimensions as in PyTorch."
function tensor(model::Model, name)
    tensors = describe(model)["tensors"]
    at = findfirst(tensor -> tensor["name"] == name, tensors)
    shape = at === nothing ? [1] : tensors[at]["shape"]
    return GC.@preserve model copied(place -> LibBIV.biv_model_get_tensor(model.handle, name, place), shape)
end

"Overwrites the tensor `name`."
function tensor!(model::Model, name, values::AbstractArray)
    described(values, 1) do array
        using_handles(handle -> LibBIV.biv_model_set_tensor(handle, name, array), model)
    end
    return model
end

"""
    predict(model, x; obsdim = 1)
    predict(model, table)

Predicts labels in their units, `n` or `n × outputs`, from features in theirs. In a table, as for [`Dataset`](@ref), a model
that knows the names of its features finds them. A trainer predicts with its model.
"""
predict(network::Model, x; obsdim::Integer=1) =
    predictions(LibBIV.biv_model_predict, network, info(network), inputs(network, x), obsdim)
function predict(trainer::Trainer, x; obsdim::Integer=1)
    network = model(trainer)
    return predictions(LibBIV.biv_trainer_predict, trainer, info(network), inputs(network, x), obsdim)
end

"The features of `x`: an array is there already, in a table they have names."
inputs(::Model, x::AbstractArray{<:Union{Real,Missing}}) = with_nan(x)
function inputs(network::Model, table)
    columns, known = table_columns(table), describe(network)["columns"]
    known === nothing && throw(ArgumentError("the model does not know the names of its features: give an array"))
    coded = [column["name"] for column in known["features"] if column["encoding"] != "number"]
    isempty(coded) || throw(ArgumentError("the model codes the column '$(coded[1])': give a data set to evaluate, or an array"))
    return numbers(columns, Symbol.(names_of(known)))
end

function predictions(predict, object, sizes, x, obsdim)
    obsdim = ndims(x) == 1 ? 1 : obsdim
    return described(x, obsdim) do array
        column(GC.@preserve object copied(place -> predict(object.handle, array, place), (size(x, obsdim), sizes.outputs)))
    end
end

"""
    predictions, variances = predict_with_variance(model, x; obsdim = 1)

As [`predict`](@ref), with the variances of the predictions' errors in the square of the labels' unit: of a model of
[`fit`](@ref), or of kind `mean_variance`. Other models know nothing of their errors: the `BIVError` is `:UNSUPPORTED`.
The predictions are those of the true values. A label whose noise has variance `v` differs from its prediction by
`error_bars(model).scale .* v` more.
"""
function predict_with_variance(model::Model, x; obsdim::Integer=1)
    x = inputs(model, x)
    obsdim = ndims(x) == 1 ? 1 : obsdim
    shape = (size(x, obsdim), info(model).outputs)
    values = Array{Float64}(undef, shape...)
    variances = described(x, obsdim) do array
        described(values, 1) do out
            GC.@preserve model copied(
                place -> LibBIV.biv_model_predict_with_variance(model.handle, array, out, place), shape)
        end
    end
    return column(values), column(variances)
end

"""
    normalization(model)

What the model subtracts from its inputs and divides them by, and the same of the labels: a named tuple of the vectors
`feature_mean`, `feature_std`, `label_mean` and `label_std`; `nothing` where the model has no normalisation.
"""
normalization(model::Model) = vectors(describe(model)["normalization"], (:feature_mean, :feature_std, :label_mean, :label_std))

"""
    error_bars(model)

What [`fit`](@ref) found of the model's errors, with an element for each output: a named tuple of the vectors `scale` (how
much of the labels' known variances is there), `tau2` (the variance of the residuals beyond them) and `mean_spread` (the
mean variance between the networks), the last two in the square of the labels' unit; `nothing` where it has none.
"""
error_bars(model::Model) = vectors(describe(model)["error_bars"], (:scale, :tau2, :mean_spread))

vectors(::Nothing, names) = nothing
vectors(fields, names) = NamedTuple{names}(Tuple(Float64.(fields[String(name)]) for name in names))

"""
    set_normalization!(model; feature_mean, feature_std, label_mean, label_std)

Gives the model a normalisation: a feature `x` becomes `(x - mean) / std` before the network; its outputs, times the
labels' `std` plus their `mean`, are the predictions. Each is a vector with an element for each feature or output, or one
number for all of them; deviations are greater than 0. A trainer that is made for the model later keeps it.
`set_normalization!(model; normalization(other)...)` takes that of another model. A `BIVError` is for another number of
elements and for values that are no means or deviations.
"""
function set_normalization!(model::Model; feature_mean, feature_std, label_mean, label_std)
    sizes = info(model)
    list(value::Number, count) = fill(value, count)
    list(values, count) = values
    described(list(feature_mean, sizes.inputs), 1) do x_mean
        described(list(feature_std, sizes.inputs), 1) do x_std
            described(list(label_mean, sizes.outputs), 1) do y_mean
                described(list(label_std, sizes.outputs), 1) do y_std
                    using_handles(
                        handle -> LibBIV.biv_model_set_normalization(handle, x_mean, x_std, y_mean, y_std), model)
                end
            end
        end
    end
    return model
end

"""
    reset_normalization!(model)

Takes the model's normalisation away: features and predictions are then the network's own, and a trainer that is made for
the model later finds a new one.
"""
function reset_normalization!(model::Model)
    using_handles(LibBIV.biv_model_reset_normalization, model)
    return model
end

"Saves a model (enough to predict) or a trainer (enough to continue). A file that is there is replaced at once. Without a
path, returns the file's bytes."
save(model::Model, path) = using_handles(handle -> LibBIV.biv_model_save(handle, path), model)
save(model::Model) = copied_bytes(LibBIV.biv_model_save_to_memory, model)

# Training.

"""
    Trainer(model, data = nothing; loss = (kind = "biv", epsilon = 0.1), batch_size = 256, learning_rate = 0.001, ...)

A trainer that starts from the model's weights as they are. Without data, [`step!`](@ref) takes mini-batches of yours.
A loss of `epsilon = "auto"`, `patience = N` and the schedule `plateau` need [`set_validation!`](@ref).
`optimizer = (kind = "sgd", momentum = 0.9)`, `schedule = (kind = "cosine", epochs = 50, warmup_steps = 100)` and
`clip_norm = 1.0` say how the weights are moved; the default is Adam, at a learning rate that stays. With `normalization = "labels"` the labels
are normalised by their own statistics, even where clean ones are kept beside them.
"""
Trainer(model::Model, data::Union{Dataset,Nothing}=nothing, json::Union{Nothing,AbstractString}=nothing; fields...) =
    GC.@preserve model data create(
        Trainer,
        place -> LibBIV.biv_trainer_create(model.handle, data === nothing ? C_NULL : data.handle, options(json, fields), place))

"""
The trainer that [`save`](@ref) saved, with a model of its own. `data` must be what it was trained on, unless
`accept_data = true`; `device` replaces the saved one.
"""
load_trainer(path::AbstractString, data::Union{Dataset,Nothing}=nothing; fields...) = GC.@preserve data create(
    Trainer,
    place -> LibBIV.biv_trainer_load_with(path, data === nothing ? C_NULL : data.handle, options(nothing, fields), place))

load_trainer(bytes::Vector{UInt8}, data::Union{Dataset,Nothing}=nothing; fields...) = GC.@preserve bytes data create(
    Trainer,
    place -> LibBIV.biv_trainer_load_from_memory(
        pointer(bytes), length(bytes), data === nothing ? C_NULL : data.handle, options(nothing, fields), place))

save(trainer::Trainer, path) = using_handles(handle -> LibBIV.biv_trainer_save(handle, path), trainer)
save(trainer::Trainer) = copied_bytes(LibBIV.biv_trainer_save_to_memory, trainer)

"One step on the next mini-batch: its loss, effective batch size, epsilon, rows, samples used and learning rate."
step!(trainer::Trainer) =
    filled(LibBIV.biv_step, place -> using_handles(handle -> LibBIV.biv_trainer_step(handle, place), trainer))

"One step on a mini-batch of yours, arrays as in [`Dataset`](@ref)."
function step!(trainer::Trainer, x::AbstractArray, y::AbstractArray; variances=nothing, obsdim::Integer=1)
    axis(array) = array === nothing || ndims(array) == 1 ? 1 : obsdim
    return described(x, axis(x)) do features
        described(y, axis(y)) do labels
            described(variances, axis(variances)) do noise
                filled(
                    LibBIV.biv_step,
                    place -> using_handles(handle -> LibBIV.biv_trainer_step_on(handle, features, labels, noise, place), trainer))
            end
        end
    end
end

"""
    set_data!(trainer, data)

Goes on with other data, as those of [`append`](@ref): weights, Adam's state, normalisation and the numbers of steps and
epochs stay. The same data change no bit of what follows.
"""
function set_data!(trainer::Trainer, data::Dataset)
    using_handles(LibBIV.biv_trainer_set_data, trainer, data)
    return trainer
end

"""
    set_validation!(trainer, data)

Judges the model on `data`, rows that are not trained on, after each epoch of [`fit!`](@ref) from now on: its callback
hears `validation_loss` and `best_epoch`. A loss of `epsilon = "auto"` gets its epsilon from there. Each `fit!` ends with
the weights of the best epoch so far and, with the option `patience = N`, when `N` epochs were no better. After
[`load_trainer`](@ref), give the same data again.
"""
function set_validation!(trainer::Trainer, data::Dataset)
    using_handles(LibBIV.biv_trainer_set_validation, trainer, data)
    return trainer
end

"A function that is called back, and what it threw."
mutable struct Callback
    call::Any
    error::Any
    stopped::Bool
end

"""
Runs the callback. What it throws stops the library and is kept, to be thrown again. So does Ctrl-C, which waits until here:
no exception may pass through the library.
"""
function called(user::Ptr{Cvoid}, argument)
    callback = unsafe_pointer_to_objref(user)::Callback
    try
        callback.stopped = reenable_sigint(() -> callback.call(argument)) === false
    catch error
        callback.error = error
        callback.stopped = true
    end
    return Int32(callback.stopped)
end

function on_epoch(user::Ptr{Cvoid}, place::Ptr{LibBIV.biv_epoch})
    epoch = unsafe_load(place)
    test = epoch.test == C_NULL ? nothing : named(unsafe_load(epoch.test))
    return called(user, merge(named(epoch), (test=test,)))
end

function on_fit(user::Ptr{Cvoid}, place::Ptr{LibBIV.biv_fit_progress})
    progress = unsafe_load(place)
    return called(user, merge(named(progress), (is_final=progress.is_final != 0,)))
end

function on_progress(user::Ptr{Cvoid}, place::Ptr{LibBIV.biv_experiment_progress})
    progress = unsafe_load(place)
    stage = (:loading, :training, :sweep)[progress.stage]
    return called(user, merge(named(progress), (stage=stage, run=unsafe_string(progress.run))))
end

"Calls the library with a callback. Gives whether it came to its end; what the callback threw is thrown again."
function with_callback(call, callback, c_function)
    state = Callback(callback === nothing ? identity : callback, nothing, false)
    status = disable_sigint(() -> GC.@preserve state call(c_function, pointer_from_objref(state)))
    state.error === nothing || throw(state.error)
    state.stopped && status == 10 && return false
    check(status)
    return true
end

"""
    fit!(trainer, epochs; test = nothing) do epoch ... end

Trains for `epochs` epochs and evaluates on `test` after each. The function, which may be left out, is called after
every epoch with a named tuple (`epoch`, `loss`, `effective_batch_size`, `test.rmse`, ...); it may use the trainer, and
stops the training when it returns `false` or throws. Gives whether the training came to its end: to the last epoch or,
with [`set_validation!`](@ref) and `patience`, to the end of patience.

Ctrl-C in the REPL stops the training at the end of the epoch with an `InterruptException`; the trainer can go on. (A script
ends at once, unless it called `Base.exit_on_sigint(false)`.)
"""
fit!(callback, trainer::Trainer, epochs::Integer; test::Union{Dataset,Nothing}=nothing) =
    with_callback(callback, @cfunction(on_epoch, Int32, (Ptr{Cvoid}, Ptr{LibBIV.biv_epoch}))) do c_function, user
        GC.@preserve trainer test LibBIV.biv_trainer_fit(
            trainer.handle, epochs, test === nothing ? C_NULL : test.handle, c_function, user)
    end
fit!(trainer::Trainer, epochs::Integer; test::Union{Dataset,Nothing}=nothing) = fit!(nothing, trainer, epochs; test=test)

"""
    evaluate(trainer, data)
    evaluate(model, data)

The errors of the predictions on a data set, measured against its labels, as a named tuple: `rmse` and `mae` in the
labels' unit, `mse` in its square, `r2`, the same in normalised units, and `expected_rmse`, what the labels' noise alone
makes. Of a model with error bars also how well they hold, else `NaN`: `mean_z2` (1 for error bars of the right size),
`nlpd`, `coverage_68` and `coverage_95`. Masked labels do not count.
"""
evaluate(trainer::Trainer, data::Dataset) = filled(
    LibBIV.biv_metrics,
    place -> using_handles((handle, data) -> LibBIV.biv_trainer_evaluate(handle, data, place), trainer, data))

evaluate(model::Model, data::Dataset) = filled(
    LibBIV.biv_metrics,
    place -> using_handles((handle, data) -> LibBIV.biv_model_evaluate(handle, data, place), model, data))

"""
Makes the `fit!` that is running on another thread stop after its present step; where none is running, the next one before
its first. A `fit!` that returns has used it up: `fit!(trainer, 0)` takes it back.
"""
cancel!(trainer::Trainer) = using_handles(LibBIV.biv_trainer_cancel, trainer)

"How far training has come."
progress(trainer::Trainer) =
    filled(LibBIV.biv_progress, place -> using_handles(handle -> LibBIV.biv_trainer_get_progress(handle, place), trainer))

facts(trainer::Trainer) = (state = progress(trainer); [counted(state.epoch, "epoch"), counted(state.steps, "step")])

function details(trainer::Trainer)
    said = describe(trainer)
    return ["loss" => json(said["options"]["loss"]), "device" => said["device"], "model" => model(trainer)]
end

"The learning rate, which the schedule multiplies: a step and an epoch have the product."
function learning_rate(trainer::Trainer)
    place = Ref(0.0)
    using_handles(handle -> LibBIV.biv_trainer_get_learning_rate(handle, place), trainer)
    return place[]
end

"Sets the learning rate from the next step on."
learning_rate!(trainer::Trainer, rate) =
    using_handles(handle -> LibBIV.biv_trainer_set_learning_rate(handle, rate), trainer)

"The model in training."
model(trainer::Trainer) =
    GC.@preserve trainer create(Model, place -> LibBIV.biv_trainer_get_model(trainer.handle, place))

# From data to a finished model.

"""
    model, report = fit(x, y; variances = nothing, model = nothing, members = 5, epochs = 100, ...)
    model, report = fit(data; model = nothing, members = 5, epochs = 100, ...)
    model, report = fit(table; labels, std = nothing, ..., members = 5, ...)
    fit(x, y; ...) do progress ... end

Makes a trained model with error bars, and nothing has to be tuned. `members` networks are trained side by side, each on
the rows outside a fold of its own; what they miss of the other rows gives the weights of the labels, the epoch to stop at
and the size of the errors. The model predicts their mean, [`predict_with_variance`](@ref) gives the error bars.

Arrays, tables and their keywords are those of [`Dataset`](@ref). `model` describes one network, as for [`Model`](@ref): a named
tuple or JSON, by default a multi-layer perceptron with hidden layers of 100 and 50. The other options (`members`,
`epochs`, `loss`, `batch_size`, `learning_rate`, `seed`, `device`, `checkpoint`, ...) are keywords; `schema("fit")` has
them all.

`report` is a `Dict`: `"outputs"` has for each output the `"variance_model"`, `"rmse"`, `"coverage_68"`, ... of held-out
rows, in the labels' units; `"warnings"` is what you should know, `"history"` has each epoch. An infinite epsilon, which
stands for equal weights, is `Inf`.

The function, which may be left out, is called some ten times a second with a named tuple (`epoch`, `epochs`, `steps`,
`total_steps`, `held_out_loss`, `epsilon`, `is_final`) and stops the fit when it returns `false` or throws. A fit that was
stopped gives `nothing`; with the option `checkpoint = "fit.biv"`, the same call goes on where it was.

A `BIVError` is `:INVALID_CONFIG` for options, `:SHAPE` where model and data do not fit, `:INVALID_ARGUMENT` for fewer
observations or groups than members.
"""
function fit(callback, data::Dataset, options_json::Union{Nothing,AbstractString}=nothing; model=nothing, fields...)
    place, report = Ref{Object}(C_NULL), Ref{Object}(C_NULL)
    network = model === nothing ? C_NULL : description(model)
    text = options(options_json, fields)
    c_function = @cfunction(on_fit, Int32, (Ptr{Cvoid}, Ptr{LibBIV.biv_fit_progress}))
    complete = with_callback(callback, c_function) do c_function, user
        GC.@preserve data LibBIV.biv_fit(network, data.handle, text, c_function, user, place, report)
    end
    return complete ? (Model(place[]), with_infinity!(read_text(Text(report[])))) : nothing
end
fit(data::Dataset, options_json::Union{Nothing,AbstractString}=nothing; fields...) = fit(nothing, data, options_json; fields...)
fit(callback, x::AbstractArray, y::AbstractArray; variances=nothing, std=nothing, groups=nothing, missing_labels=:error,
    obsdim::Integer=1, fields...) = fit(
    callback, Dataset(x, y; variances=variances, std=std, groups=groups, missing_labels=missing_labels, obsdim=obsdim);
    fields...)
fit(x::AbstractArray, y::AbstractArray; fields...) = fit(nothing, x, y; fields...)
fit(callback, table; labels, features=nothing, variances=nothing, std=nothing, groups=nothing, missing_labels=:error,
    fields...) = fit(
    callback, Dataset(table; labels=labels, features=features, variances=variances, std=std, groups=groups,
        missing_labels=missing_labels); fields...)
fit(table; fields...) = fit(nothing, table; fields...)

"The report with `Inf` where an epsilon is infinite: JSON has null there."
function with_infinity!(report::AbstractDict)
    for (name, value) in report
        if value === nothing && name in ("epsilon", "training_epsilon", "epsilon_best")
            report[name] = Inf
        else
            with_infinity!(value)
        end
    end
    return report
end
with_infinity!(values::AbstractVector) = foreach(with_infinity!, values)
with_infinity!(value) = value

const VERDICTS = ("profile", "floor", "paule-mandel", "mse", "too-few-rows", "equal-variances", "zero-residuals")

"""
    variance_model(residuals, variances)

What the residuals of any model, label minus prediction of rows that it has not seen, say of the variances that are known
of the labels' noise: vectors of one length, the variances in the square of the residuals' unit. A row of infinite
variance counts nothing.

A residual has the variance `scale * variance + tau2`, and weights for training are `1 / (variance + epsilon)`: the result
is a named tuple with these and with `tau2_pm`, `epsilon_best`, `epsilon_floor`, `gain`, `gain_se`, `mean_z2` and `rows`,
as biv.h describes them. `epsilon` is `Inf` where equal weights do as well. `verdict` is why: `"profile"`, `"floor"`,
`"paule-mandel"`, `"mse"`, `"too-few-rows"`, `"equal-variances"` or `"zero-residuals"`; `warning` is what you should know,
or `nothing`.

A `BIVError` is `:SHAPE` for vectors of different lengths, `:INVALID_ARGUMENT` for values that are not allowed.
"""
function variance_model(residuals::AbstractVector, variances::AbstractVector)
    result = described(residuals, 1) do r
        described(variances, 1) do v
            filled(LibBIV.biv_variance_model, place -> check(LibBIV.biv_variance_model_fit(r, v, place)))
        end
    end
    warning = result.warning == C_NULL ? nothing : unsafe_string(result.warning)
    return merge(result, (verdict=VERDICTS[result.verdict], warning=warning))
end

# Losses and noise by themselves.

"""
    loss((kind = "biv", epsilon = 0.1), predictions, labels; variances = nothing)

The loss of a mini-batch and its gradient by the predictions, for a training loop of your own. For `gaussian` and
`beta_nll`, the predictions have two columns for each column of the labels: first the values, then the logarithms of the
variances that come to the labels' own.
"""
function loss(kind, predictions::AbstractArray, labels::AbstractArray; variances=nothing)
    gradient = Array{Float64}(undef, size(predictions)...)
    text = kind isa AbstractString ? kind : json(kind)
    result = described(predictions, 1) do p
        described(labels, 1) do y
            described(variances, 1) do v
                described(gradient, 1) do g
                    filled(LibBIV.biv_loss_result, place -> check(LibBIV.biv_loss_compute(text, p, y, v, place, g)))
                end
            end
        end
    end
    return merge(result, (gradient=gradient,))
end

"`count` noise variances of a distribution: `sample_noise((kind = \"gamma\", alpha = 2, beta = 0.5), 100; seed = 1)`."
function sample_noise(distribution, count::Integer; seed=0)
    values = Vector{Float64}(undef, count)
    text = distribution isa AbstractString ? distribution : json(distribution)
    GC.@preserve values check(LibBIV.biv_noise_sample(text, seed, pointer(values), count))
    return values
end

# Whole experiments.

read_text(text::Text) = GC.@preserve text begin
    place = Ref{Cstring}(C_NULL)
    check(LibBIV.biv_text_get(text.handle, place))
    parse_json(unsafe_string(place[]))
end

description(config::AbstractString) = config
description(config) = json(config)

"An experiment's description with every default filled in."
resolve(config) = read_text(create(Text, place -> LibBIV.biv_experiment_resolve(description(config), place)))

for (name, c_name, doc) in (
    (:run_experiment, :biv_experiment_run, "Runs an experiment: `run_experiment((dataset = (kind = \"bike\", train_size = 7000), data = folder))`."),
    (:run_sweep, :biv_sweep_run, "Runs a grid of experiments: `run_sweep((base = ..., grid = (seeds = 1:5, losses = [...])))`."),
)
    @eval begin
        @doc $doc function $name(callback, config)
            place = Ref{Object}(C_NULL)
            text = description(config)
            c_function = @cfunction(on_progress, Int32, (Ptr{Cvoid}, Ptr{LibBIV.biv_experiment_progress}))
            complete = with_callback(callback, c_function) do c_function, user
                LibBIV.$c_name(text, c_function, user, place)
            end
            return complete ? read_text(Text(place[])) : nothing
        end
        $name(config) = $name(nothing, config)
    end
end

# The library.

"The library's version."
version() = VersionNumber(unsafe_string(LibBIV.biv_version()))

"What the library is built from and runs on, such as whose BLAS libtorch calls."
function build_info()
    place = Ref{Cstring}(C_NULL)
    check(LibBIV.biv_build_info(place))
    return parse_json(unsafe_string(place[]))
end

"The function that hears the log, or `nothing`."
const LISTENER = Ref{Any}(nothing)

function on_log(::Ptr{Cvoid}, level::Int32, message::Cstring)
    try
        LISTENER[] === nothing || LISTENER[](level == 1 ? :warning : :info, unsafe_string(message))
    catch
        # An error has nobody here to go to.
    end
    return nothing
end

"""
    set_log(f, level = :warning)
    set_log(nothing)

Calls `f(level, message)` with what the library says beside errors, each message once; `nothing` hears nothing. Up to
`:warning` that is what makes work slow and what was not expected, with `:info` also what is in use. An error that `f`
throws is dropped. The library calls `f` only within a call of Julia's, never on a thread of its own. Set it while no
other task is in the library.
"""
function set_log(f, level::Symbol=:warning)
    levels = (silent=0, warning=1, info=2)
    haskey(levels, level) || throw(ArgumentError("level is :$level, must be :silent, :warning or :info"))
    LISTENER[] = f
    callback = f === nothing ? C_NULL : @cfunction(on_log, Cvoid, (Ptr{Cvoid}, Int32, Cstring))
    check(LibBIV.biv_set_log(levels[level], callback, C_NULL))
end

"The JSON Schema of the options called `name`."
function schema(name)
    place = Ref{Cstring}(C_NULL)
    check(LibBIV.biv_config_schema(String(name), place))
    return parse_json(unsafe_string(place[]))
end

for (name, c_name, doc) in (
    (:threads, :biv_get_num_threads, "How many threads libtorch uses inside one operation."),
    (:cuda_devices, :biv_cuda_device_count, "The number of CUDA devices that can be used."),
)
    @eval @doc $doc function $name()
        place = Ref{Int32}(0)
        check(LibBIV.$c_name(place))
        return Int(place[])
    end
end

"Sets the number of threads inside one operation, in the whole process."
threads!(count::Integer) = check(LibBIV.biv_set_num_threads(count))

end
