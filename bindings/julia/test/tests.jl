# Included by runtests.jl.
using BIV: LibBIV

# The C declarations against the header.

const HEADER = read(joinpath(@__DIR__, "..", "..", "..", "include", "biv.h"), String)
const PLAIN = replace(HEADER, r"/\*.*?\*/"s => "")

"What a C type is to `ccall`: a number's size, or an address."
function c_kind(text)
    text = strip(replace(replace(text, r"\b(const|struct)\b" => ""), r"\s+" => " "))
    (occursin('*', text) || endswith(text, "callback user") || occursin("_callback", text)) && return :address
    name = split(text)[1]
    return Dict("biv_status" => Int32, "int32_t" => Int32, "int64_t" => Int64, "uint64_t" => UInt64, "size_t" => Csize_t,
                "double" => Float64, "void" => Cvoid)[name]
end
julia_kind(type) = type <: Ptr || type == Cstring ? :address : type

@testset "declarations" begin
    found = Symbol[]
    for declaration in eachmatch(r"^([a-z][\w ]*?[ *]+)(biv_\w+)\(([^;{]*?)\);"m, PLAIN)
        result, name, parameters = declaration.captures
        name = Symbol(name)
        push!(found, name)
        @test haskey(LibBIV.SIGNATURES, name)
        expected = strip(parameters) == "void" ? [] : [c_kind(parameter) for parameter in split(parameters, ',')]
        declared_result, declared = LibBIV.SIGNATURES[name]
        @test [julia_kind(type) for type in declared] == expected
        @test julia_kind(declared_result) == c_kind(result * " ")
    end
    @test length(found) > 50
    @test Set(found) == Set(keys(LibBIV.SIGNATURES))

    for declaration in eachmatch(r"typedef struct (biv_\w+) \{(.*?)\} \1;"s, PLAIN)
        name, body = Symbol(declaration.captures[1]), declaration.captures[2]
        isdefined(LibBIV, name) || error("no struct $name")
        type = getfield(LibBIV, name)
        fields = [strip(field) for field in split(body, ';') if !isempty(strip(field))]
        @test [Symbol(match(r"(\w+)$", field).match) for field in fields] == collect(fieldnames(type))
        @test [c_kind(field) for field in fields] == [julia_kind(field) for field in fieldtypes(type)]
    end
end

"The error that `call` throws, whose message must say `text`."
function failure(call, text)
    try
        call()
    catch error
        @test occursin(text, sprint(showerror, error))
        return error
    end
    @test "no error" == text
end
refused(call, status, text) = @test failure(call, text).status == status

@testset "options and results as JSON" begin
    options = (kind="mlp", hidden=[32, 16], rate=0.5, deep=(a=nothing, b=true), text="a\"b\\\n", of=:symbol)
    text = "{\"kind\":\"mlp\",\"hidden\":[32,16],\"rate\":0.5,\"deep\":{\"a\":null,\"b\":true}," *
           "\"text\":\"a\\\"b\\\\\\u000a\",\"of\":\"symbol\"}"
    @test BIV.json(options) == text
    @test BIV.parse_json(text)["text"] == "a\"b\\\n"
    @test BIV.parse_json(" { \"a\" : [ 1 , -2.5e3, [] , {} ] , \"ü\" : \"\\u00e9\\n\" } ") ==
          Dict("a" => Any[1, -2500.0, [], Dict()], "ü" => "é\n")
    failure(() -> BIV.json((epsilon=NaN,)), "no place for NaN")
end

const x = [Float64(i + 10j) for i in 1:6, j in 1:3]
const y = Float64.(1:6)

@testset "arrays keep their order" begin
    data = Dataset(x, y; variances=2y)
    @test (length(data), info(data).features, info(data).has_variances) == (6, 3, 1)
    @test features(data) == x && labels(data) == y && variances(data) == 2y
    @test features(Dataset(permutedims(x), y; obsdim=2)) == x
    @test features(Dataset(Float32.(x), y)) == x
    @test features(Dataset(view(x, 6:-1:1, 1:2:3), y)) == x[6:-1:1, [1, 3]]
    @test features(Dataset(x', 1:3)) == x'
    @test variances(Dataset(x, y; std=y)) == y .^ 2
    @test labels(Dataset(x, [y 2y])) == [y 2y]
    images = reshape(Float32.(1:24), 2, 3, 2, 2)
    @test features(Dataset(images, [1, 2]))[1, 2] == images[1, 1, 1, 2]
    @test features(subset(data, [6, 1])) == x[[6, 1], :]
    @test sort(labels(shuffled(data; seed=3))) == y
    one, other = split_rows(data; train_size=4)
    @test sort([labels(one); labels(other)]) == y
    noisy = add_noise(data; distribution=(kind="uniform", low=1, high=1))
    @test variances(noisy) ≈ 2y .+ 1 && clean_labels(noisy) == y && labels(noisy) != y
end

@testset "what is wrong with data is said" begin
    refused(() -> Dataset(x, y[1:5]), :SHAPE, "labels have 5 rows, the features have 6")
    refused(() -> Dataset([x; NaN 0 0], [y; 1]), :INVALID_ARGUMENT, "row 6, feature 0: NaN")
    refused(() -> Dataset(x, y; variances=-y), :INVALID_ARGUMENT, "row 0, variance 0: -1 must not be negative")
    failure(() -> Dataset(x, y; variances=y, std=y), "not both")
    failure(() -> Dataset(["a"], y), "an array of real numbers is needed, not of String")
    failure(() -> Dataset(x, y; obsdim=3), "obsdim is 3, the array has 2 dimensions")
    refused(() -> read_csv("nowhere.csv"; labels=["y"]), :NOT_FOUND, "nowhere.csv")
    refused(() -> synthetic(row=3), :INVALID_CONFIG, "unknown field `row`")
    failure(() -> subset(Dataset(x, y), [1, 7]), "6-element UnitRange{Int64} at index [7]")
    closed = Dataset(x, y)
    close(closed)
    close(closed)
    @test !isopen(closed)
    refused(() -> labels(closed), :INVALID_HANDLE, "NULL")
end

small() = add_noise(synthetic(rows=200, features=5); distribution=(kind="gamma", mean=5, variance=50))
small_model(; fields...) = Model(; kind="mlp", inputs=5, hidden=[8], fields...)

@testset "training" begin
    data, test = split_rows(small(); train_size=150)
    trainer = Trainer(small_model(), data; batch_size=50, learning_rate=0.01)
    first = step!(trainer)
    @test first.rows == 50 && 1 <= first.effective_batch_size <= 50 && first.epsilon == 0.1
    before = evaluate(trainer, test).rmse
    seen = []
    @test fit!(trainer, 30; test=test) do epoch
        push!(seen, epoch)
    end
    @test length(seen) == 30 && seen[end].epoch == 30 && seen[end].test.rmse == evaluate(trainer, test).rmse < before
    predictions = predict(trainer, features(test))
    @test sqrt(sum(abs2, predictions - labels(test)) / 50) ≈ evaluate(trainer, test).rmse rtol = 1e-6
    @test predict(model(trainer), permutedims(features(test)); obsdim=2) == predictions
    learning_rate!(trainer, 0.5)
    @test learning_rate(trainer) == 0.5 && progress(trainer).epoch == 30
    step!(Trainer(small_model(), nothing; loss=(kind="mse",)), features(test), labels(test))
    refused(() -> step!(trainer, x, y), :SHAPE, "3 features, the model has 5")
    refused(() -> Trainer(small_model(), data; loss=(kind="biv", epsilon=-1)), :INVALID_CONFIG, "trainer.loss.epsilon: is -1")
    refused(() -> learning_rate!(trainer, NaN), :INVALID_CONFIG, "learning_rate")
end

@testset "callbacks stop, throw and use the trainer" begin
    data = small()
    trainer = Trainer(small_model(), data; batch_size=50)
    epochs = 0
    @test !fit!(trainer, 10) do epoch
        epochs = epoch.epoch
        evaluate(trainer, data).rmse > 0 && epoch.epoch < 3
    end
    @test epochs == 3
    failure("out of patience") do
        fit!(epoch -> error("out of patience"), trainer, 10)
    end
    @test fit!(trainer, 1)
    @test progress(trainer).epoch == 5
    cancel!(trainer)
end

@testset "files" begin
    mktempdir() do folder
        data = small()
        trainer = Trainer(small_model(), data; batch_size=50)
        fit!(trainer, 2)
        save(trainer, joinpath(folder, "trainer.biv"))
        save(model(trainer), joinpath(folder, "model.biv"))
        again = load_trainer(joinpath(folder, "trainer.biv"), data)
        @test step!(again) == step!(trainer)
        loaded = load_model(joinpath(folder, "model.biv"))
        @test length(predict(loaded, features(data))) == 200
        refused(() -> load_model(joinpath(folder, "trainer.biv")), :INVALID_ARGUMENT, "holds a training checkpoint")
        write(joinpath(folder, "broken.biv"), "hello")
        refused(() -> load_model(joinpath(folder, "broken.biv")), :CORRUPT, "broken.biv")
        write(joinpath(folder, "t.csv"), "a,y,e\n1,2,1.645\n3,4,3.29\n")
        @test variances(read_csv(joinpath(folder, "t.csv"); labels=["y"], standard_errors=["e"], error_divisor=1.645)) ≈ [1, 4]
    end
end

@testset "models, losses, experiments" begin
    network = small_model()
    @test info(network).parameters == 5 * 8 + 8 + 8 + 1
    @test size(tensor(network, "0.weight")) == (8, 5)
    tensor!(network, "0.bias", fill(0.5, 8))
    @test tensor(network, "0.bias") == fill(0.5, 8)
    refused(() -> tensor!(network, "0.bias", zeros(7)), :SHAPE, "'0.bias'")
    refused(() -> tensor(network, "9.bias"), :NOT_FOUND, "9.bias")
    refused(() -> Model(kind="mlp"), :INVALID_CONFIG, "inputs")

    result = loss((kind="biv", epsilon=0.5), [1.0, 2.0], [0.0, 0.0]; variances=[0.5, 1.5])
    # Weights 1 and 1/2, normalised: 2/3 and 1/3.
    @test result.value ≈ 2 / 3 + 4 / 3 && result.gradient ≈ [4 / 3, 4 / 3] && result.effective_batch_size ≈ 1.8
    @test all(0 .<= sample_noise((kind="uniform", low=0, high=2), 100; seed=1) .<= 2)

    config = (dataset=(kind="synthetic", train_size=128, test_size=32), batch_size=32, epochs=2,
              model=(kind="mlp", hidden=[4]), loss=(kind="mse",))
    @test resolve(config)["learning_rate"] == 0.01
    batches = 0
    outcome = run_experiment(config) do progress
        batches = progress.done
        true
    end
    @test batches == 8 && outcome["last"]["rmse"] > 0
    @test run_experiment(progress -> false, config) === nothing
    refused(() -> run_experiment((dataset=(kind="bike", train_size=9),)), :INVALID_CONFIG, "noise")
    sweep = run_sweep((base=config, grid=(seeds=[1, 2], losses=[(kind="mse",)])))
    @test sweep["table"][1]["runs"] == 2
end

@testset "the library" begin
    @test version() >= v"0.1" && threads() >= 1 && cuda_devices() >= 0
    @test haskey(schema("trainer"), "properties")
    # Whatever BLAS Julia has: libtorch calls its own.
    @test build_info()["blas"] == "libtorch_cpu.so"
    before, heard = threads(), []
    set_log((level, message) -> (push!(heard, (level, message)); error("dropped")), :info)
    @test any(startswith(message, "this is libbiv") for (level, message) in heard if level == :info)
    empty!(heard)
    threads!(1001)
    threads!(1001)
    @test length(heard) == 1 && heard[1][1] == :warning && startswith(heard[1][2], "1001 threads")
    set_log(nothing)
    threads!(1002)
    @test length(heard) == 1
    threads!(before)
    failure(() -> set_log(println, :loud), "level is :loud")
    for _ in 1:2000
        Dataset(x, y)
    end
    GC.gc()
end

@testset "examples" begin
    for name in sort(readdir(joinpath(@__DIR__, "..", "examples")))
        @testset "$name" begin
            Base.include(Module(), joinpath(@__DIR__, "..", "examples", name))
            @test true
        end
    end
end
